"""The Separator: any song, any cut, the same samples; and what it refuses."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import separate as package
from separate import ArraySong, InputError, Separator, UnknownStem, UsageError
from separate.checkpoints.weights import load, save
from separate.device import choose_device, choose_dtype, worthwhile
from separate.errors import DeviceUnavailable
from separate.separator import choose_chunking
from separate.stream import MINIMUM
from tests.conftest import music


class Identity(torch.nn.Module):
    """A model whose first stem is the mixture and whose second is silence."""

    sources = ("all", "nothing")
    sample_rate = 44100
    segment = 0.5
    context = 0.05
    sums = True

    def forward(self, mix: Tensor) -> Tensor:
        return torch.stack([mix, torch.zeros_like(mix)], 1)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 60_000),
    channels=st.integers(1, 5),
    segment=st.floats(MINIMUM / 44100, 2),
    overlap=st.floats(0, 0.95),
    size=st.integers(100, 100_000),
    seed=st.integers(0, 9),
)
def test_identity_passes_any_segment_overlap_and_block(
    length: int, channels: int, segment: float, overlap: float, size: int, seed: int
) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, (channels, length)).astype(np.float32)

    class Sized(ArraySong):
        def blocks(self, start: int = 0, stop: int | None = None, _: int = 0) -> Iterator[np.ndarray]:
            return super().blocks(start, stop, size)

    separator = Separator(Identity(), device="cpu", segment=max(segment, (MINIMUM + 1) / 44100), overlap=overlap)
    stems = separator.separate(Sized(samples, 44100))
    assert stems["all"].shape == samples.shape
    assert np.abs(stems["all"] - samples).max() < 1e-6
    assert not stems["nothing"].any()


@pytest.mark.parametrize("rate", [8000, 22050, 44099, 48000, 96000])
def test_stems_at_another_rate_are_as_long_as_the_song_and_sum_to_it(rate: int) -> None:
    samples = music(1.3, rate)
    stems = Separator(Identity(), device="cpu").separate(ArraySong(samples, rate))
    assert stems["all"].shape == samples.shape
    assert np.abs(stems["all"] + stems["nothing"] - samples).max() < 1e-6
    # All but the bands that no resampler to 44.1 kHz and back can carry is where it belongs.
    carried = int(samples.shape[1] * min(19000 / rate, 0.43))
    assert np.abs(np.fft.rfft(stems["nothing"])[:, :carried]).max() < 1e-3 * np.abs(np.fft.rfft(samples)).max()


def test_rate_of_the_result() -> None:
    samples = music(1.0, 48000)
    stems = Separator(Identity(), device="cpu").separate(ArraySong(samples, 48000), rate=32000)
    assert stems["all"].shape == (2, 32000)


@pytest.mark.parametrize("length", [1, 5000, 130_001])
@pytest.mark.parametrize(("rate", "target"), [(44100, 44100), (48000, 48000), (48000, 8000), (8000, 48000)])
def test_the_mixture_beside_its_stems(length: int, rate: int, target: int) -> None:
    """The song as it was read, sample by sample with its stems, whatever block each of them came in."""
    samples = music(length / rate, rate)
    separator = Separator(Identity(), device="cpu", segment=0.2, overlap=0)
    stems = separator.separate(ArraySong(samples, rate), stems=["all", "mixture"], rate=target)
    assert list(stems) == ["all", "mixture"]
    assert stems["all"].shape == stems["mixture"].shape == (2, -(-length * target // rate))
    if rate == target:
        assert np.array_equal(stems["mixture"], samples)
    both = separator.separate(ArraySong(samples, rate), rate=target)
    assert np.array_equal(both["all"], stems["all"])
    # Once and twice resampled are the same below the upper end of the band.
    window = np.hanning(stems["all"].shape[1])
    spectra = [np.abs(np.fft.rfft(window * wave)) for wave in (stems["all"] - stems["mixture"], stems["mixture"])]
    low = int(0.42 * min(rate, target) / target * stems["all"].shape[1])
    assert spectra[0][:, :low].max(initial=0) <= 1e-3 * spectra[1].max()


def test_a_mixture_is_not_summed_up_from_stems_that_do_not_sum() -> None:
    class Deaf(Identity):
        sums = False

        def forward(self, mix: Tensor) -> Tensor:
            return torch.stack([mix / 2, mix / 4], 1)

    samples = music(1.0, 44100)
    stems = Separator(Deaf(), device="cpu").separate(ArraySong(samples, 44100), stems=["mixture", "all"], start=0.3)
    assert np.array_equal(stems["mixture"], samples[:, 13230:])
    assert np.abs(stems["all"] - samples[:, 13230:] / 2).max() < 1e-6


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.4), (0.3, 1.1), (2.0, None), (2.9, 99.0), (0.1, 0.10001)])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_part_is_cut_to_the_sample(start: float, end: float | None, rate: int) -> None:
    samples = music(3.0, rate)
    part = Separator(Identity(), device="cpu").separate(ArraySong(samples, rate), start=start, end=end)
    first, last = round(start * rate), min(3 * rate, 3 * rate if end is None else round(end * rate))
    expected = samples[:, first : max(last, first + 1)]
    got = part["all"] + part["nothing"]
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-6


@pytest.mark.parametrize(("rate", "target"), [(44100, 48000), (48000, 44100), (44100, 8000), (8000, 11025)])
def test_a_part_at_another_rate_is_that_of_the_whole(rate: int, target: int) -> None:
    song = ArraySong(music(2.0, rate), rate)
    separator = Separator(Identity(), device="cpu")
    whole = separator.separate(song, stems=["all", "mixture"], rate=target)
    part = separator.separate(song, stems=["all", "mixture"], start=1.1111, end=1.5, rate=target)
    first, last = (-(-round(seconds * rate) * target // rate) for seconds in (1.1111, 1.5))
    for stem, samples in part.items():
        assert samples.shape == (2, last - first)
        assert np.abs(samples - whole[stem][:, first:last]).max() < 1e-4


def test_a_part_has_a_sample_at_the_rate_of_its_stems() -> None:
    separator = Separator(Identity(), device="cpu")
    song = ArraySong(music(2.0, 44100), 44100)
    for start in (0.5, 0.50008, 0.50012):
        assert separator.separate(song, start=start, end=start + 0.00001, rate=8000)["all"].shape == (2, 1)
    with pytest.raises(InputError, match=r"array: it holds no samples at 8000 Hz after 1.9999\d* s; nothing to"):
        separator.separate(song, start=1.9999, end=2.0, rate=8000)


def test_a_part_is_separated_with_its_surroundings(tiny: Path) -> None:
    """The part's stems are close to the whole song's; without surroundings its ends would not be."""
    samples = music(4.0, 44100)
    separator = Separator(tiny, device="cpu", wiener=0)
    whole = separator.separate(ArraySong(samples, 44100))["vocals"][:, 66150:110250]
    part = separator.separate(ArraySong(samples, 44100), start=1.5, end=2.5)["vocals"]
    alone = separator.separate(ArraySong(samples[:, 66150:110250], 44100))["vocals"]

    def worst(estimate: np.ndarray) -> float:
        return float(np.abs(estimate - whole)[:, :500].max())

    assert worst(part) < 0.2 * worst(alone)


@pytest.mark.parametrize("wiener", [0, 1, 2])
def test_stems_of_a_spectral_model_sum_to_the_song(tiny: Path, wiener: int) -> None:
    samples = music(2.5, 48000)
    stems = Separator(tiny, device="cpu", wiener=wiener).separate(ArraySong(samples, 48000))
    residual = sum(stems.values()) - samples
    assert 10 * np.log10((residual**2).mean() / (samples**2).mean()) < -100


def test_more_than_two_channels_are_separated_in_pairs(tiny: Path) -> None:
    samples = music(1.2, 44100, channels=5)
    separator = Separator(tiny, device="cpu")
    stems = separator.separate(ArraySong(samples, 44100))["drums"]
    for first, last in pairwise([0, 2, 4, 5]):
        alone = separator.separate(ArraySong(samples[first:last], 44100))["drums"]
        assert np.abs(stems[first:last] - alone).max() < 1e-5


def test_file_stream_array_and_one_shot_agree(tiny: Path, song: Path) -> None:
    separator = Separator(tiny, device="cpu")
    stems = separator.separate(song)
    assert list(stems) == ["vocals", "drums", "bass", "other"]
    assert stems["vocals"].dtype == np.float32
    blocks = list(separator.stream(str(song), stems=["bass"]))
    assert list(blocks[0]) == ["bass"]
    assert np.array_equal(np.concatenate([block["bass"] for block in blocks], 1), stems["bass"])
    samples, rate = soundfile.read(song, dtype="float32")
    assert np.array_equal(separator.separate(ArraySong(samples.T, rate))["bass"], stems["bass"])
    assert np.array_equal(separator.separate(io.BytesIO(song.read_bytes()))["bass"], stems["bass"])
    assert np.array_equal(package.separate(song, tiny, device="cpu")["bass"], stems["bass"])


def test_silence_and_single_samples_are_songs(tiny: Path) -> None:
    separator = Separator(tiny, device="cpu")
    for length in (1, 2, 4410, 50_000):
        for stem in separator.separate(ArraySong(np.zeros((2, length)), 44100)).values():
            assert stem.shape == (2, length)
            assert not stem.any()
    one = separator.separate(ArraySong(np.array([0.5]), 44100))
    assert abs(sum(float(stem[0, 0]) for stem in one.values()) - 0.5) < 1e-6


def test_shifts_average_over_other_chunks(tiny: Path) -> None:
    samples = music(3.0, 44100)
    once = Separator(tiny, device="cpu").separate(ArraySong(samples, 44100))["vocals"]
    thrice = Separator(tiny, device="cpu", shifts=3).separate(ArraySong(samples, 44100))["vocals"]
    assert once.shape == thrice.shape
    assert 0 < np.abs(once - thrice).max() < 0.2


def test_bfloat16_is_close_to_float32(tiny: Path) -> None:
    samples = music(2.0, 44100)
    full = Separator(tiny, device="cpu", precision="float32").separate(ArraySong(samples, 44100))["vocals"]
    half = Separator(tiny, device="cpu", precision="bfloat16").separate(ArraySong(samples, 44100))["vocals"]
    assert 0 < np.abs(full - half).max() < 0.02


def test_a_caller_who_stops_early_leaves_no_thread(tiny: Path, song: Path) -> None:
    import threading

    blocks = Separator(tiny, device="cpu", segment=0.5).stream(song)
    next(blocks)
    blocks.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "separate-ahead"]


@pytest.mark.parametrize("samples", [np.zeros((2, 0)), np.array([])])
def test_a_song_without_samples_is_refused(tiny: Path, samples: np.ndarray) -> None:
    with pytest.raises(InputError, match="no samples"):
        Separator(tiny, device="cpu").separate(ArraySong(samples, 44100))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tiny: Path, bad: float) -> None:
    samples = music(0.5, 44100)
    samples[1, 100] = bad
    with pytest.raises(InputError, match="NaN or infinite"):
        Separator(tiny, device="cpu").separate(ArraySong(samples, 44100))


def test_a_part_beyond_the_end_is_refused(tiny: Path, song: Path) -> None:
    with pytest.raises(InputError, match=re.escape("no samples after 9 s")):
        Separator(tiny, device="cpu").separate(song, start=9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"overlap": 0.96}, "overlap is a share from 0 to 0.95, not 0.96"),
        ({"overlap": -0.1}, "overlap"),
        ({"overlap": np.nan}, "overlap is a share from 0 to 0.95, not nan"),
        ({"segment": 0.01}, "segment of 0.01 s is too short"),
        ({"segment": np.nan}, "segment of nan s is out of range: at most 3600 s, an hour"),
        ({"segment": np.inf}, "segment of inf s is out of range"),
        ({"segment": -np.inf}, "segment of -inf s is out of range"),
        ({"segment": 1e9}, r"segment of 1e\+09 s is out of range"),
        ({"shifts": 0}, "shifts and batch count from 1"),
        ({"batch": 0}, "shifts and batch count from 1"),
        ({"precision": "float64"}, "unknown precision 'float64'"),
        ({"wiener": -1}, "wiener counts iterations from 0"),
        ({"wiener": 1, "griffin_lim": 5}, "exclude each other"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": "cuda:x"}, "unknown device 'cuda:x'"),
        ({"device": torch.device("meta")}, "unknown device 'meta'"),
        ({"device": None}, "unknown device 'None'"),
    ],
)
def test_options_out_of_range(tiny: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Separator(tiny, **options)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(DeviceUnavailable, match="torch finds no NVIDIA GPU here"):
        choose_device("cuda:0")
    assert choose_device("auto").type in ("cpu", "mps")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_what_the_cpu_gives(tiny: Path) -> None:
    assert choose_device("auto").type == "cuda"
    with pytest.raises(DeviceUnavailable, match="this machine has cuda:0 to"):
        choose_device("cuda:99")
    samples = music(2.0, 44100)
    cpu = Separator(tiny, device="cpu").separate(ArraySong(samples, 44100))["vocals"]
    gpu = Separator(tiny, device="cuda", precision="float32").separate(ArraySong(samples, 44100))["vocals"]
    assert np.abs(cpu - gpu).max() < 1e-3


def test_precision_by_name() -> None:
    assert choose_dtype("float16", torch.device("cpu")) is torch.float16
    known = torch.cpu.get_capabilities()
    fast = known.get("avx512_bf16") or known.get("amx_bf16")
    assert choose_dtype("auto", torch.device("cpu")) is (torch.bfloat16 if fast else torch.float32)


@pytest.mark.parametrize("fast", [True, False])
def test_who_asks_for_bfloat16_where_it_is_slow_is_told(
    fast: bool, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    said: list[str] = []
    for precision in ("auto", "float32", "bfloat16"):
        Separator(tiny, device="cpu", precision=precision, say=said.append)
    slow = "cpu has to imitate bfloat16, which takes longer than float32: --precision auto is faster"
    assert said == ([] if fast else [slow])


@pytest.mark.parametrize("known", [{}, {"avx2": True}, {"avx512_bf16": True}, {"amx_bf16": True}])
def test_bfloat16_is_worthwhile_where_it_is_known(known: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    cpu, fast = torch.device("cpu"), torch.bfloat16 if any("bf16" in name for name in known) else torch.float32
    assert choose_dtype("auto", cpu) == worthwhile(torch.bfloat16, cpu) == fast
    assert worthwhile(torch.float16, cpu) == torch.float16


@pytest.mark.parametrize(
    ("licence", "terms"),
    [
        ("MIT", None),
        ("LicenseRef-research-only", "for research only, not for commercial use"),
        ("CC-BY-NC-SA-4.0", "for research only, not for commercial use"),
        ("unknown", "nobody says what it may be used for"),
        ("GPL-3.0", "read it before you use the weights"),
    ],
)
def test_who_may_not_use_a_model_as_they_like_is_told(
    tiny: Path, tmp_path: Path, licence: str, terms: str | None
) -> None:
    model, path = load(tiny), tmp_path / "model.safetensors"
    save(path, model, architecture="d2-gru", licence=licence, training={})
    said: list[str] = []
    Separator(path, device="cpu", say=said.append)
    assert said == ([f"{path}: {terms} (licence: {licence})"] if terms else [])


def test_chunks_start_where_the_model_wants_them() -> None:
    model = SimpleNamespace(sample_rate=44100, segment=10.0, context=0.7, grid=5632)
    for overlap in (0, 0.1, 0.37):
        chunking = choose_chunking(model, None, overlap, 1, 1)
        assert [length % 5632 for length in (chunking.segment, chunking.context, chunking.hop)] == [0, 0, 0]
    del model.grid
    assert choose_chunking(model, None, 0.1, 1, 1).hop % 8192 == 0
    short = choose_chunking(model, 0.2, 0.1, 1, 1)  # there the grid has to be finer
    assert 0.15 * 44100 < short.segment <= 0.2 * 44100


def test_chunks_overlap_as_the_model_likes_unless_the_user_says() -> None:
    model = Identity()
    assert Separator(model, device="cpu").chunking.overlap == 0.1
    model.overlap = 0.25  # type: ignore[assignment]
    assert Separator(model, device="cpu").chunking.overlap == 0.25
    assert Separator(model, device="cpu", overlap=0).chunking.overlap == 0


def test_a_model_is_even_or_hears_what_is_around_a_chunk() -> None:
    model = Identity()
    model.even, model.around = True, 0  # type: ignore[assignment]
    with pytest.raises(UsageError, match="takes around = 0 samples cannot be even, too: leave one"):
        Separator(model, device="cpu")


def test_as_many_chunks_at_once_as_the_model_likes_unless_the_user_says() -> None:
    model = Identity()
    assert Separator(model, device="cpu").chunking.batch == 4
    model.batch = 7  # type: ignore[assignment]
    assert Separator(model, device="cpu").chunking.batch == 7
    assert Separator(model, device="cpu", batch=2).chunking.batch == 2


def test_a_single_stem_by_its_name(tiny: Path, song: Path) -> None:
    separator = Separator(tiny, device="cpu")
    assert list(separator.separate(song, stems="vocals", end=0.1)) == ["vocals"]
    with pytest.raises(UnknownStem, match="no stem 'guitar' in this model"):
        separator.separate(song, stems="guitar")


def test_unknown_stems_and_parts(tiny: Path, song: Path) -> None:
    separator = Separator(tiny, device="cpu")
    with pytest.raises(UnknownStem, match="no stem 'guitar' in this model: it separates vocals, drums, bass, other"):
        separator.separate(song, stems=["guitar"])
    with pytest.raises(UsageError, match="no stems asked for"):
        separator.separate(song, stems=[])
    for start, end in [(-1.0, None), (2.0, 1.0), (1.0, 1.0)]:
        with pytest.raises(UsageError, match="end must come after start"):
            separator.separate(song, start=start, end=end)
    for bad in (np.nan, np.inf, 1e308):
        for start, end in [(bad, None), (0.0, bad), (bad, bad)]:
            with pytest.raises(UsageError, match=r"both be numbers up to 1e\+12"):
                separator.separate(song, start=start, end=end)


@pytest.mark.parametrize("song", [None, 5, np.zeros((2, 100)), b"song.wav"])
def test_what_is_no_song_is_refused(song: Any) -> None:
    with pytest.raises(
        UsageError, match=r"a song is a path, an open file or an ArraySong\(samples, rate\), not <class"
    ):
        Separator(Identity(), device="cpu").separate(song)


def test_a_model_whose_own_segment_is_too_short() -> None:
    model = Identity()
    model.segment = 0.01
    with pytest.raises(UsageError, match=r"segment of 0\.01 s is too short"):
        Separator(model, device="cpu")


def test_a_model_of_ones_own_does_not_train() -> None:
    """Neither dropout nor the running statistics of norms: twice the same song is twice the same stems."""

    class Training(Identity):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop = torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.5)

        def forward(self, mix: Tensor) -> Tensor:
            return super().forward(self.drop(self.norm(mix)))

    samples, model = music(0.3, 44100), Training()
    separator = Separator(model, device="cpu")
    once, twice = (separator.separate(ArraySong(samples, 44100))["all"] for _ in range(2))
    assert np.array_equal(once, twice)
    assert np.abs(once - samples).max() < 1e-4
    assert model.norm.num_batches_tracked == 0


def test_a_model_that_is_no_module_is_taken_as_it_is() -> None:
    class Plain:
        sources, sample_rate, segment, context, sums = ("all",), 44100, 0.5, 0.05, True

        def __call__(self, mix: Tensor) -> Tensor:
            return mix[:, None]

    samples = music(0.3, 44100)
    stems = Separator(Plain(), device="cpu").separate(ArraySong(samples, 44100))
    assert np.abs(stems["all"] - samples).max() < 1e-6


@pytest.fixture
def double() -> Iterator[None]:
    """Set torch's default type to float64, as some programs do."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_torchs_default_type_does_not_matter(tiny: Path, double: None) -> None:
    samples = music(0.5, 48000)
    stems = Separator(tiny, device="cpu").separate(ArraySong(samples, 48000))
    assert {stem.dtype for stem in stems.values()} == {np.dtype(np.float32)}
    assert np.abs(sum(stems.values()) - samples).max() < 1e-4


def test_torchs_default_device_does_not_matter(tiny: Path) -> None:
    samples = music(0.5, 47999)  # a rate that no other test has: its resampler is made here
    with torch.device("meta"):
        stems = Separator(tiny, device="cpu").separate(ArraySong(samples, 47999))["vocals"]
    assert np.array_equal(stems, Separator(tiny, device="cpu").separate(ArraySong(samples, 47999))["vocals"])


def test_a_device_of_torch_is_one() -> None:
    assert Separator(Identity(), device=torch.device("cpu")).device == torch.device("cpu")


def test_a_batch_that_is_longer_than_any_song(tiny: Path) -> None:
    samples = music(2.3, 44100)
    expected, stems = (
        Separator(tiny, device="cpu", precision="float32", batch=batch).separate(ArraySong(samples, 44100))
        for batch in (1, 100_000_000)
    )
    assert np.array_equal(stems["vocals"], expected["vocals"])


def test_a_model_object_has_its_own_settings() -> None:
    with pytest.raises(UsageError, match="settings of a checkpoint"):
        Separator(Identity(), wiener=2)
