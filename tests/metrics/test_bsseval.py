from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from separate.metrics import bsseval
from separate.metrics.bsseval import Frames, bss_eval, bss_eval_from
from tests.metrics.peers import museval, worst

Pair = tuple[Tensor, Tensor]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sources(count: int = 3, channels: int = 2, length: int = 7000) -> Tensor:
    """Make coloured noises that rise and fall, each with a place between the channels, some reverberation, and hiss."""
    dry = noise(count, 1, length + 15, seed=count) * (1.5 + torch.sin(torch.arange(length + 15) / 900))
    decay = torch.exp(-torch.arange(16) / 3)
    paths = noise(count * channels, 1, 16, seed=1) * decay
    wet = F.conv1d(dry.repeat(1, channels, 1).view(1, -1, length + 15), paths, groups=count * channels)
    return 0.1 * wet.view(count, channels, length) + 0.01 * noise(count, channels, length, seed=5)


def leaky(references: Tensor) -> Tensor:
    """Estimate as models do: a bit of every other source, a bit of noise."""
    return 0.9 * references + 0.1 * references.sum(0) + 0.02 * noise(*references.shape, seed=2)


def plain(count: int, channels: int, length: int = 7000) -> Callable[[], Pair]:
    def case() -> Pair:
        references = sources(count, channels, length)
        return references, leaky(references)

    return case


def of(change: Callable[[Tensor, Tensor], Pair], count: int = 3, channels: int = 2) -> Callable[[], Pair]:
    def case() -> Pair:
        references = sources(count, channels)
        return change(references, leaky(references))

    return case


def silence(x: Tensor, source: int, start: int, stop: int) -> Tensor:
    x = x.clone()
    x[source, :, start:stop] = 0
    return x


def mono(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True).expand_as(x)


def cancelling(x: Tensor) -> Tensor:
    """Turn one channel of one source into the other one's opposite, for a frame."""
    x = x.clone()
    x[0, 1, 2000:4000] = -x[0, 0, 2000:4000]
    return x


def with_a_double(x: Tensor) -> Tensor:
    return torch.cat([x, x[:1]])


def with_a_quarter_double(x: Tensor) -> Tensor:
    return torch.cat([x, 0.25 * x[:1]])


def filtered(x: Tensor) -> Tensor:
    taps = noise(1, 1, 20, seed=3)
    return F.conv1d(F.pad(x.flatten(0, 1).unsqueeze(1), (19, 0)), taps).view(x.shape)


def delayed(x: Tensor, by: int) -> Tensor:
    return F.pad(x, (by, 0))[..., : x.shape[-1]]


def lost_channel(x: Tensor) -> Tensor:
    x = x.clone()
    x[1, 0] = 0
    return x


def sixteen_bit(x: Tensor) -> Tensor:
    return x.mul(32768).round().div(32768)


def dull(x: Tensor) -> Tensor:
    """Leave nothing above a third of the band, as lossy codecs do, but the noise of 16 bits."""
    spectrum = torch.fft.rfft(x)
    spectrum[..., spectrum.shape[-1] // 3 :] = 0
    return sixteen_bit(torch.fft.irfft(spectrum, x.shape[-1]))


CASES: dict[str, Callable[[], Pair]] = {
    "one mono source": plain(1, 1),
    "one stereo source": plain(1, 2),
    "two mono sources": plain(2, 1),
    "two stereo sources": plain(2, 2),
    "three mono sources": plain(3, 1),
    "four stereo sources": plain(4, 2),
    "five stereo sources": plain(5, 2),
    "two sources of three channels": plain(2, 3),
    "shorter than a frame": plain(2, 2, 1500),
    "as long as a frame": plain(2, 2, 2000),
    "a sample short of two frames": plain(2, 2, 3999),
    "two frames": plain(2, 2, 4000),
    "white": lambda: (noise(3, 2, 7000), noise(3, 2, 7000) + 0.3 * noise(3, 2, 7000, seed=4)),
    "nothing in common": lambda: (noise(2, 2, 7000), noise(2, 2, 7000, seed=4)),
    "correlated sources": of(lambda r, e: (r + 0.8 * r.mean(0), e)),
    "a reference silent for a frame": of(lambda r, e: (silence(r, 1, 2000, 4000), e)),
    "an estimate silent for a frame": of(lambda r, e: (r, silence(e, 2, 4000, 6000))),
    "a reference silent for part of a frame": of(lambda r, e: (silence(r, 0, 2500, 3900), e)),
    "references silent in most frames": of(lambda r, e: (silence(r, 0, 0, 4000), silence(e, 1, 2000, 6000))),
    "a reference whose channels cancel": of(lambda r, e: (cancelling(r), e)),
    "an estimate whose channels cancel": of(lambda r, e: (r, cancelling(e))),
    "mono references in two channels": of(lambda r, e: (mono(r), e)),
    "all mono in two channels": of(lambda r, e: (mono(r), mono(e))),
    "a source with one channel": of(lambda r, e: (lost_channel(r), e)),
    "identical sources": of(lambda r, e: (with_a_double(r), torch.cat([e, e[1:2]]))),
    "one source a quarter of another": of(lambda r, e: (with_a_quarter_double(r), torch.cat([e, e[1:2]]))),
    "estimates equal to references": of(lambda r, e: (r, r)),
    "estimates half as loud": of(lambda r, e: (r, 0.5 * r)),
    "estimates filtered": of(lambda r, e: (r, filtered(r))),
    "estimates delayed within the filters": of(lambda r, e: (r, delayed(r, 30))),
    "estimates delayed beyond the filters": of(lambda r, e: (r, delayed(r, 200))),
    "estimates exchanged": of(lambda r, e: (r, e.flip(0))),
    "the mixture for every source": of(lambda r, e: (r, r.sum(0).expand_as(r) / 3)),
    "channels exchanged": of(lambda r, e: (r, e.flip(1))),
    "very quiet": of(lambda r, e: (1e-4 * r, 1e-4 * e)),
    "one source very quiet": of(lambda r, e: (r * torch.tensor([1, 1, 1e-3])[:, None, None], e)),
    "lossy songs in 16 bits": of(lambda r, e: (dull(r), sixteen_bit(e))),
}


def stacked(frames: Frames) -> Tensor:
    return torch.stack([frames.sdr, frames.isr, frames.sir, frames.sar])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_agrees_with_museval(case: Callable[[], Pair]) -> None:
    references, estimates = case()
    ours = bss_eval(references, estimates, window=2000, hop=2000, filter_length=64)
    assert worst(stacked(ours), museval(references, estimates, 2000, 2000, 64)) < 0.01


@pytest.mark.parametrize(
    ("window", "hop", "filter_length"),
    [
        (3000, 1000, 64),  # frames overlap
        (1000, 2500, 64),  # and leave gaps
        (50, 400, 64),  # shorter than a filter
        (10**9, 10**9, 64),  # the whole track
        (2000, 2000, 1),
        (2000, 2000, 3),
        (2000, 2000, 512),
    ],
)
def test_agrees_with_museval_at_every_setting(window: int, hop: int, filter_length: int) -> None:
    references, estimates = plain(2, 1)()
    ours = bss_eval(references, estimates, window=window, hop=hop, filter_length=filter_length)
    assert worst(stacked(ours), museval(references, estimates, window, hop, filter_length)) < 0.01


def test_agrees_with_museval_at_its_own_settings() -> None:
    references, estimates = plain(1, 2, 2 * 44100 + 5)()
    ours = bss_eval(references, estimates)
    assert ours.sdr.shape == (1, 2)
    assert worst(stacked(ours), museval(references, estimates, 44100, 44100, 512)) < 0.01


def test_a_frame_of_any_length_is_put_together_from_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    references, estimates = plain(2, 2)()
    whole = stacked(bss_eval(references, estimates, window=6000, hop=500, filter_length=64))
    monkeypatch.setattr(bsseval, "PIECE", 300)
    torch.testing.assert_close(
        stacked(bss_eval(references, estimates, window=6000, hop=500, filter_length=64)), whole, rtol=0, atol=1e-9
    )


def test_a_perfect_estimate_has_no_distortion() -> None:
    references = sources()
    frames = bss_eval(references, references, window=2000, hop=2000, filter_length=64)
    assert frames.sdr.isposinf().all()
    assert (torch.stack([frames.isr, frames.sir, frames.sar]) > 100).all()


@pytest.mark.parametrize("who", ["references", "estimates"])
def test_with_a_source_that_is_silent_throughout_nothing_is_a_number(who: str) -> None:
    references = sources()
    estimates = leaky(references)
    {"references": references, "estimates": estimates}[who][1] = 0
    assert stacked(bss_eval(references, estimates, window=2000, hop=2000, filter_length=64)).isnan().all()


def test_an_estimate_that_is_broken_spoils_no_other() -> None:
    references = sources()
    estimates = leaky(references)
    sound = stacked(bss_eval(references, estimates, window=2000, hop=2000, filter_length=64))
    estimates[1, 0, 2500] = torch.nan
    broken = stacked(bss_eval(references, estimates, window=2000, hop=2000, filter_length=64))
    assert broken[1:, 1].isnan().all()  # The filters are those of the whole track. The SDR needs none:
    assert broken[0, 1].isnan().tolist() == [False, True, False]
    torch.testing.assert_close(broken[:, ::2], sound[:, ::2])


def test_bands_that_are_empty_do_not_become_interference() -> None:
    # Float samples of a lossy file have nothing above its highest band, not even the noise of 16 bits. Rounding alone
    # would choose filters that are huge there, and ring wherever a frame begins and ends.
    references = sources(2, 2, 44100)
    spectrum = torch.fft.rfft(references.double())
    spectrum[..., spectrum.shape[-1] // 3 :] = 0
    references = torch.fft.irfft(spectrum, 44100)
    estimates = references + 0.1 * references.flip(0) + 0.01 * noise(2, 2, 44100, seed=2)
    frames = bss_eval(references, estimates, window=11025, hop=11025, filter_length=256)
    assert ((frames.sir - 20).abs() < 5).all()  # A tenth is 20 dB below.


def test_what_is_read_bit_by_bit_scores_the_same() -> None:
    references, estimates = plain(2, 2, 100_000)()
    longest, threads = 0, set()
    reading = threading.Lock()

    def read(start: int, stop: int) -> Pair:
        nonlocal longest
        assert reading.acquire(blocking=False)  # One thread at a time: files know one position.
        assert 0 <= start < stop <= 100_000
        longest = max(longest, stop - start)
        threads.add(threading.get_ident())
        reading.release()
        return references[..., start:stop], estimates[..., start:stop]

    whole = bss_eval(references, estimates, window=30_000, hop=30_000, filter_length=64)
    parts = bss_eval_from(read, 100_000, window=30_000, hop=30_000, filter_length=64)
    assert longest < 20_000
    torch.testing.assert_close(stacked(parts), stacked(whole), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_precision_is_measured_in_float64(dtype: torch.dtype) -> None:
    references, estimates = (x.to(dtype) for x in plain(2, 2)())
    ours = bss_eval(references, estimates, window=2000, hop=2000, filter_length=64)
    assert ours.sdr.dtype == torch.float64
    assert worst(stacked(ours), museval(references, estimates, 2000, 2000, 64)) < 0.01


def test_inputs_are_left_alone() -> None:
    references, estimates = plain(2, 2)()
    before = references.clone(), estimates.clone()
    bss_eval(references, estimates, window=2000, hop=2000, filter_length=64)
    assert torch.equal(references, before[0])
    assert torch.equal(estimates, before[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_agrees_on_a_gpu() -> None:
    references, estimates = plain(3, 2)()
    here = bss_eval(references, estimates, window=2000, hop=2000, filter_length=64)
    there = bss_eval(references.cuda(), estimates.cuda(), window=2000, hop=2000, filter_length=64)
    assert there.sdr.device.type == "cpu"
    assert worst(stacked(there), stacked(here)) < 1e-6


@pytest.mark.parametrize("shapes", [((2, 2, 9), (2, 2, 8)), ((2, 9), (2, 9)), ((2, 2, 0), (2, 2, 0))])
def test_shapes_that_do_not_fit_are_named(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    references, estimates = map(torch.zeros, shapes)
    with pytest.raises(ValueError, match="one shape") as error:
        bss_eval(references, estimates)
    assert str(shapes[0]) in str(error.value)


def test_settings_are_positive() -> None:
    with pytest.raises(ValueError, match="are positive: not 100, 0, 10 and 512"):
        bss_eval(torch.zeros(1, 1, 100), torch.zeros(1, 1, 100), window=0, hop=10)
