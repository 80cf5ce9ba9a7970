"""The Masker and Denoiser: its size, its transform, its GRUs against cells, its inference, and that nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.checkpoints.weights import load, save
from separate.errors import CheckpointError
from separate.models import build
from separate.models.mad import PRESETS, HammingSTFT, MaD, MaDConfig, recur
from separate.separator import choose_chunking
from separate.stream import stream
from tests.conftest import music

TINY: dict[str, Any] = {
    "sample_rate": 8000,
    "n_fft": 256,
    "window": 129,
    "hop": 24,
    "bins": 20,
    "hidden": 9,
    "sequence": 12,
    "margin": 2,
    "iterations": 3,
    "griffin_lim": 2,
}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"residual": "outside", "iterations": 0},
    {"residual": "aligned", "bands": 16, "griffin_lim": 0},
]


def tiny(**changes: Any) -> MaD:
    """A model of a few thousand random weights, the same at every call."""
    torch.manual_seed(0)
    model = MaD(MaDConfig(**TINY | changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(2)  # the default weights are so small that they hardly say anything
            if name == "mask.bias":
                parameter.add_(0.5)
    return model


def spectrogram(frames: int = 30, batch: int = 2, channels: int = 2) -> Tensor:
    return torch.rand(batch, channels, 129, frames, generator=torch.Generator().manual_seed(1))


def sequences(count: int = 5, width: int = 40, frames: int = 8) -> Tensor:
    """Some that differ, so that they settle at different times: (frame, sequence, width)."""
    x = torch.randn(frames, count, width, generator=torch.Generator().manual_seed(2))
    return x * torch.logspace(-3, 0.5, count)[:, None]


def test_the_paper_model_has_the_paper_sizes() -> None:
    with torch.device("meta"):
        model = build("mad", {})
    assert sum(parameter.numel() for parameter in model.parameters()) == 27_195_538
    assert {name: tuple(weight.shape) for name, weight in model.named_parameters() if weight.ndim == 2} == {
        "ahead.weight_ih_l0": (3 * 744, 744),
        "ahead.weight_hh_l0": (3 * 744, 744),
        "back.weight_ih_l0": (3 * 744, 744),
        "back.weight_hh_l0": (3 * 744, 744),
        "decoder.weight_ih_l0": (3 * 1488, 1488),
        "decoder.weight_hh_l0": (3 * 1488, 1488),
        "mask.weight": (2049, 1488),
        "denoiser_enc.weight": (1024, 2049),
        "denoiser_dec.weight": (2049, 1024),
    }
    assert (model.sources, model.sums) == (("vocals", "accompaniment"), True)


@pytest.mark.parametrize(
    ("name", "iterations", "tolerance"), [("gru-nri", 0, None), ("gru-ris-s", 3, 1e-2), ("gru-ris-l", 10, 1e-3)]
)
def test_the_presets_are_those_of_the_paper(name: str, iterations: int, tolerance: float | None) -> None:
    config = MaDConfig(**PRESETS[name])
    assert config.iterations == iterations
    assert tolerance in (None, config.tolerance)


def test_frames_are_windowed_with_zeros_around_song_and_window() -> None:
    audio = np.random.default_rng(0).standard_normal(3000)
    window = np.hamming(2049) / np.sqrt(4096)
    padded = np.pad(audio, (1152, 1152 + 384))
    count = 1 + -(-(1152 + 3000 + 1152 - 2049) // 384)  # until all that was added is covered
    spec = HammingSTFT(4096, 384, 2049)(torch.from_numpy(audio))
    assert spec.shape == (2049, count)
    for m in range(count):
        buffer = np.zeros(4096)
        frame = padded[384 * m : 384 * m + 2049] * window
        buffer[:1025], buffer[-1024:] = frame[1024:], frame[:1024]  # zero-phase: its middle comes first
        expected = np.fft.rfft(buffer) * np.exp(-1j * np.pi * np.arange(2049))  # torch counts from the buffer's start
        np.testing.assert_allclose(spec[:, m].numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(4096, 384, 2049), (256, 24, 129), (256, 32, 256), (64, 1, 5)])
@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 383, 384, 385, 5000])
def test_the_transform_gives_back_what_went_in(length: int, sizes: tuple[int, int, int], dtype: torch.dtype) -> None:
    stft = HammingSTFT(*sizes)
    audio = torch.randn(2, 3, length, dtype=dtype)
    spec = stft(audio)
    assert spec.shape == (2, 3, sizes[0] // 2 + 1, stft.frames(length))
    back = stft.inverse(spec, length)
    assert back.dtype == dtype
    torch.testing.assert_close(back, audio, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-13)


def cells(gru: nn.GRU, x: Tensor, fed_back: bool) -> Tensor:
    """Run torch's cell frame by frame."""
    cell = nn.GRUCell(gru.input_size, gru.hidden_size)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in gru.state_dict().items()})
    h, states = torch.zeros(x.shape[1], gru.hidden_size), []
    for frame in x:
        h = cell(frame, h)
        if fed_back:
            h = h + frame
        states.append(h)
    return torch.stack(states)


@pytest.mark.parametrize("fed_back", [True, False])
def test_a_recurrence_is_that_of_a_cell(fed_back: bool) -> None:
    torch.manual_seed(0)
    gru, x = nn.GRU(7, 7), torch.randn(9, 4, 7)
    torch.testing.assert_close(recur(gru, x, fed_back), cells(gru, x, fed_back), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("residual", ["fed-back", "outside", "aligned"])
def test_the_encoder_by_cells(residual: str) -> None:
    model, x = tiny(residual=residual), sequences(width=20, frames=12)
    fed_back = residual == "fed-back"
    ahead, back = cells(model.ahead, x, fed_back), cells(model.back, x.flip(0), fed_back)
    frames = []
    for t in range(2, 10):  # without two at either end
        heard = 11 - t  # at step t, the other direction has come to this frame
        if residual == "fed-back":
            both = [ahead[t], back[t]]
        elif residual == "outside":
            both = [ahead[t] + x[t], back[t] + x[heard]]
        else:
            both = [ahead[t] + x[t], back[heard] + x[t]]
        frames.append(torch.cat(both, 1))
    torch.testing.assert_close(model.encode(x), torch.stack(frames), rtol=1e-5, atol=1e-6)


def test_aligned_is_a_bidirectional_gru_and_its_input() -> None:
    model, x = tiny(residual="aligned"), sequences(width=20, frames=12)
    both = nn.GRU(20, 20, bidirectional=True)
    state = dict(model.ahead.state_dict()) | {f"{k}_reverse": v for k, v in model.back.state_dict().items()}
    both.load_state_dict(state)
    torch.testing.assert_close(model.encode(x), (both(x)[0] + x.repeat(1, 1, 2))[2:-2], rtol=1e-5, atol=1e-6)


def settled(model: MaD, h: Tensor) -> tuple[Tensor, int]:
    """Algorithm 1 of the paper for one sequence; also says how often its loop ran."""
    last = model.decoder(h)[0]
    for i in range(model.config.iterations):
        new = model.decoder(last)[0]
        if F.mse_loss(new, last) < model.config.tolerance:
            return new, i + 1
        last = new
    return last, model.config.iterations


@pytest.mark.parametrize("iterations", [0, 1, 3, 10])
def test_every_sequence_settles_on_its_own(iterations: int) -> None:
    model, h = tiny(iterations=iterations, tolerance=3e-3), sequences(8)
    each = [settled(model, h[:, i : i + 1]) for i in range(8)]
    if iterations == 10:
        counts = {count for _, count in each}
        assert len(counts) > 2  # else this shows nothing
        assert min(counts) < 10
    torch.testing.assert_close(model.decode(h), torch.cat([y for y, _ in each], 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changes", VARIANTS)
def test_songs_and_channels_do_not_meet(changes: dict[str, Any]) -> None:
    model = tiny(**changes, tolerance=1e-3)
    m = spectrogram() * torch.tensor([1.0, 1e-3])[:, None, None, None]  # they settle at different times
    with torch.inference_mode():
        both = model.estimate(m)
        for song in range(2):
            for channel in range(2):
                alone = model.estimate(m[song : song + 1, channel : channel + 1])[0, 0]
                torch.testing.assert_close(both[song, channel], alone, rtol=1e-4, atol=1e-6 * float(alone.max()))


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("count", [1, 40, 70])
def test_sequences_in_threads_of_their_own_say_what_training_hears(count: int, changes: dict[str, Any]) -> None:
    model = tiny(**changes, tolerance=3e-3)
    x = sequences(count, model.bands.weight.shape[0] if model.bands else 129, 12).abs()
    expected = [part.detach() for part in model.masks(x)]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with torch.inference_mode():
        found = model.apart(x)
    torch.set_num_threads(before)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("residual", "memory"), [("fed-back", 0.5), ("outside", 0.0), ("aligned", 0.0)])
def test_the_layers_by_hand(residual: str, memory: float) -> None:
    # All weights of the GRUs are zero: then n = 0 and z = ½, and a state is half the one before.
    model = tiny(residual=residual, iterations=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.mask.bias.copy_(torch.linspace(-1, 2, 129))
        model.denoiser_enc.weight[0] = 1.0
        model.denoiser_enc.bias[0] = -3.0
        model.denoiser_dec.weight[:, 0] = 0.1
    x = spectrogram(12, 1, 1)[0].permute(2, 0, 1)  # (frame, sequence, bin)
    heard = x[..., :20]
    state, states = torch.zeros(1, 20), []
    for frame in heard:
        state = memory * state + frame
        states.append(state)
    torch.testing.assert_close(model.encode(heard)[..., :20], torch.stack(states)[2:-2])

    masked, denoised = model.magnitudes(x)
    expected = torch.linspace(-1, 2, 129).clamp(min=0) * x[2:-2]
    torch.testing.assert_close(masked, expected)
    gain = 0.1 * (expected.sum(2, keepdim=True) - 3).clamp(min=0)
    assert gain.min() > 0
    torch.testing.assert_close(denoised, gain * expected)


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 30])
def test_sequences_hold_every_frame_and_its_neighbours(frames: int) -> None:
    model, m = tiny(), spectrogram(frames)[0]
    parts = model.split(m)
    count = -(-frames // 8)
    assert parts.shape == (12, 2 * count, 129)
    assert torch.equal(model.join(model.inner(parts), m), m)
    around = F.pad(m, (2, 2 + count * 8 - frames))
    for item in range(2):
        for i in range(count):
            assert torch.equal(parts[:, item * count + i].T, around[item, :, 8 * i : 8 * i + 12])


@pytest.mark.parametrize("changes", VARIANTS)
def test_estimates_are_what_the_layers_say_of_each_sequence(changes: dict[str, Any]) -> None:
    model, m = tiny(**changes), spectrogram(8, 1, 1)
    x = model.bands.compress(m[0]) if model.bands else m[0]
    mask, gain = model.masks(F.pad(x, (2, 2)).permute(2, 0, 1))  # one sequence, silence around it
    share = (mask * gain)[:, 0].T
    expected = (model.bands.expand(share) if model.bands else share) * m[0, 0]
    torch.testing.assert_close(model.estimate(m)[0, 0], expected)
    assert expected.min() >= 0
    assert expected.std() > 0


def test_the_encoder_does_not_hear_high_bins_and_bands_do_not_at_all() -> None:
    loud = spectrogram().clone()
    loud[:, :, 20:] += 1
    model = tiny()
    parts, others = (model.split(m.flatten(0, 1)) for m in (spectrogram(), loud))
    assert torch.equal(model.masks(parts)[0], model.masks(others)[0])
    assert not torch.equal(model.masks(parts)[1], model.masks(others)[1])  # the denoiser hears all
    model = tiny(bands=16)
    assert torch.equal(model.estimate(loud)[:, :, :20], model.estimate(spectrogram())[:, :, :20])


@pytest.mark.parametrize("changes", VARIANTS)
def test_training_reaches_every_weight(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    x = model.split(spectrogram().flatten(0, 1))[..., : 16 if model.bands else 129]
    sum(y.square().mean() for y in model.magnitudes(x)).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_initial_weights_are_orthogonal_between_states_and_spread_elsewhere() -> None:
    model = tiny()
    model.initialise()
    for gru in (model.ahead, model.back, model.decoder):
        weight = gru.all_weights[0][1]
        torch.testing.assert_close(weight.T @ weight, torch.eye(gru.hidden_size), rtol=0, atol=1e-5)
    mask = model.mask.weight.detach()
    assert float(mask.std()) == pytest.approx((2 / sum(mask.shape)) ** 0.5, rel=0.05)
    assert not model.mask.bias.any()


@pytest.mark.parametrize("changes", VARIANTS)
def test_saved_and_loaded_it_says_the_same(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    save(tmp_path / "mad.safetensors", model, architecture="mad", licence="MIT", training={})
    again = load(tmp_path / "mad.safetensors")
    assert again.config == model.config
    mix = torch.randn(1, 2, 1000)
    with torch.inference_mode():
        assert torch.equal(again(mix), model(mix))


@pytest.mark.parametrize("changes", VARIANTS[:2])
def test_float32_is_enough(changes: dict[str, Any]) -> None:
    mix = torch.from_numpy(music(0.5, 8000))[None]
    with torch.inference_mode():
        stems, exact = tiny(**changes)(mix), tiny(**changes).double()(mix.double())
    assert (stems.dtype, exact.dtype) == (torch.float32, torch.float64)
    assert float(exact[:, 0].abs().max()) > 0.01
    assert float((stems - exact).abs().max()) < 1e-4


@pytest.mark.parametrize("changes", VARIANTS)
def test_bfloat16_changes_the_voice_little(changes: dict[str, Any]) -> None:
    model, mix = tiny(**changes, tolerance=0.0), torch.from_numpy(music(0.5, 8000))[None]
    with torch.inference_mode():
        voice = model(mix)[:, 0]
        with torch.autocast("cpu", torch.bfloat16):
            low = model(mix)[:, 0]
    assert low.dtype == torch.float32
    assert float((low - voice).norm() / voice.norm()) < 0.05


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [1, 100, 44100])
def test_any_length_sums_to_the_mixture(length: int, channels: int, changes: dict[str, Any]) -> None:
    mix = torch.randn(2, channels, length)
    with torch.inference_mode():
        stems = tiny(**changes)(mix)
    assert stems.shape == (2, 2, channels, length)
    assert stems.isfinite().all()
    torch.testing.assert_close(stems.sum(1), mix, rtol=0, atol=1e-5)


def test_ten_seconds_and_a_sample() -> None:
    mix = torch.randn(1, 2, 441001)
    with torch.inference_mode():
        stems = tiny(hop=32, griffin_lim=1)(mix)
    assert stems.shape == (1, 2, 2, 441001)
    torch.testing.assert_close(stems.sum(1), mix, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS)
def test_silence_stays_silence(changes: dict[str, Any]) -> None:
    with torch.inference_mode():
        stems = tiny(**changes)(torch.zeros(1, 2, 500))
    assert torch.equal(stems, torch.zeros(1, 2, 2, 500))


# The transform, sequences and chunks of the paper, in a net of few bands.
@pytest.mark.parametrize(("griffin_lim", "least"), [(0, 100), (2, 40)])
def test_chunks_say_what_the_whole_song_says(griffin_lim: int, least: float) -> None:
    torch.manual_seed(0)
    model = MaD(MaDConfig(bands=16, hidden=8, iterations=2, griffin_lim=griffin_lim)).eval()
    nn.init.constant_(model.mask.bias, 0.5)
    nn.init.constant_(model.denoiser_dec.bias, 0.5)
    mix = torch.from_numpy(music(13, 44100, channels=1))
    with torch.inference_mode():
        whole = model(mix[None])[0]
        chunks = list(stream([mix], model, choose_chunking(model, None, 0.1, 1, 2)))
    assert len(chunks) > 1
    error = torch.cat(chunks, -1) - whole
    assert 10 * float((whole[0].square().sum() / error[0].square().sum()).log10()) > least


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"residual": "inside"}, "residual must be one of fed-back, outside, aligned, got 'inside'"),
        ({"sources": ["vocals"]}, r"sources must name two, .*\('vocals',\)"),
        ({"sources": ["vocals", "vocals"]}, "sources must name two"),
        ({"hop": 0}, "hop = 0"),
        ({"hop": 33}, "window = 129 must be from four hops, 132, to n_fft, 256"),
        ({"window": 257}, "window = 257 .* 256"),
        ({"n_fft": 255}, "n_fft = 255"),
        ({"bins": 0}, "bins must be at least 1, got 0"),
        ({"bins": 130}, "bins = 130 .* 129 bins"),
        ({"bands": 1}, "bands = 1"),
        ({"bands": -4}, "bands must be at least 0, got -4"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"margin": 6}, "margin of 6 .* 12 frames"),
        ({"margin": -1}, "margin must be at least 0"),
        ({"iterations": -1}, "iterations must be at least 0, got -1"),
        ({"tolerance": -0.1}, "tolerance must be at least 0, got -0.1"),
        ({"tolerance": float("nan")}, "tolerance = nan"),
        ({"griffin_lim": -1}, "griffin_lim must be at least 0, got -1"),
        ({"sample_rate": 0}, "sample_rate must be at least 1, got 0"),
        ({"segment": 1.0, "context": 0.5}, "context of 0.5 s .* of 1.0 s"),
        ({"wiener": 1}, "mad has no setting 'wiener'"),
    ],
)
def test_settings_that_make_no_model_are_refused_by_name_and_value(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=f"^mad.* {says}" if "wiener" not in config else says):
        build("mad", TINY | config)
