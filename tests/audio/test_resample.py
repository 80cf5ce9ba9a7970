"""What resampling must not do to a sound: move it, colour it, alias it, or depend on how it was cut into blocks."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separate.audio.resample import Resampler, resample

PAIRS = [
    (48000, 44100),
    (44100, 48000),
    (96000, 44100),
    (8000, 44100),
    (22050, 44100),
    (44100, 8000),
    (192000, 44100),
    (44099, 44100),  # no common divisor: the fine table
    (96001, 44100),
]


def noise(samples: int, channels: int = 2) -> Tensor:
    return torch.rand(channels, samples, generator=torch.Generator().manual_seed(samples)) * 2 - 1


def sine(rate: int, frequency: float, samples: int) -> Tensor:
    time = torch.arange(samples, dtype=torch.float64) / rate
    return torch.sin(2 * math.pi * frequency * time + 0.3).float()[None]


def middle(audio: Tensor) -> Tensor:
    """Cut the edges off, where the silence around a song reaches in."""
    return audio[:, audio.shape[1] // 4 : -audio.shape[1] // 4].double()


def level(audio: Tensor) -> float:
    """Give the level of a sound, in dB of a full sine's."""
    return 10 * math.log10(2 * float(audio.double().square().mean()) + 1e-30)


def in_blocks(resampler: Resampler, audio: Tensor, sizes: list[int]) -> Tensor:
    parts, at = [], 0
    for size in itertools.cycle(sizes):
        parts.append(resampler.process(audio[:, at : at + size]))
        at += size
        if at >= audio.shape[1]:
            break
    return torch.cat([*parts, resampler.flush()], dim=1)


@settings(max_examples=15, deadline=None)
@given(
    pair=st.sampled_from([*PAIRS, (44100, 44100)]),
    samples=st.integers(0, 30_000),
    sizes=st.lists(st.integers(0, 20_000), min_size=1, max_size=6).filter(lambda sizes: max(sizes) >= 2000),
)
def test_blocks_of_any_size_give_the_whole_files_samples(pair: tuple[int, int], samples: int, sizes: list[int]) -> None:
    audio = noise(samples)
    whole = resample(audio, *pair)
    streamed = in_blocks(Resampler(*pair), audio, sizes)
    assert streamed.shape == whole.shape == (2, math.ceil(samples * pair[1] / pair[0]))
    assert torch.allclose(streamed, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 7, 1000, 1_000_000])
@pytest.mark.parametrize("pair", [(48000, 44100), (44099, 44100)])
def test_block_sizes_of_the_extremes(pair: tuple[int, int], size: int) -> None:
    audio = noise(3000 if size < 1000 else 1_100_000 if size > 1000 and pair[0] == 48000 else 20_000, channels=1)
    streamed = in_blocks(Resampler(*pair), audio, [size])
    assert torch.allclose(streamed, resample(audio, *pair), rtol=0, atol=1e-6)


def test_a_resampler_is_ready_for_another_song_after_flush() -> None:
    resampler = Resampler(48000, 44100)
    mono, stereo = noise(5000, channels=1), noise(7000)
    in_blocks(resampler, stereo, [3000])
    assert torch.equal(in_blocks(resampler, mono, [3000]), resample(mono, 48000, 44100))
    assert resampler.flush().numel() == 0


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("samples", [1, 2, 3, 1000])
def test_length_is_rounded_up(pair: tuple[int, int], samples: int) -> None:
    assert resample(noise(samples), *pair).shape == (2, math.ceil(samples * pair[1] / pair[0]))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_a_sine_stays_the_sine(pair: tuple[int, int], share: float) -> None:
    """Amplitude, frequency and phase, up to 90 % of the lower Nyquist frequency; images and aliases are in the rest."""
    frequency = share * min(pair) / 2
    made = resample(sine(pair[0], frequency, pair[0] // 4), *pair)
    wanted = sine(pair[1], frequency, made.shape[1])
    assert level(middle(made) - middle(wanted)) < -90
    assert level(middle(made)) == pytest.approx(level(middle(wanted)), abs=0.001)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[0] > pair[1]])
@pytest.mark.parametrize("above", [1.001, 1.05, 0.99])
def test_what_the_new_rate_cannot_hold_vanishes(pair: tuple[int, int], above: float) -> None:
    """The highest tone is just under the old Nyquist frequency, the others just over the new one."""
    frequency = above * pair[1 if above > 1 else 0] / 2
    assert level(middle(resample(sine(pair[0], frequency, pair[0] // 4), *pair))) < -90


@pytest.mark.parametrize("pair", PAIRS)
def test_dc_stays(pair: tuple[int, int]) -> None:
    made = middle(resample(torch.full((1, pair[0] // 4), 0.5), *pair))
    assert float(made.sub(0.5).abs().max()) < 1e-5


@pytest.mark.parametrize("pair", PAIRS)
def test_an_impulse_stays_at_its_time(pair: tuple[int, int]) -> None:
    audio = torch.zeros(1, pair[0] // 4)
    audio[0, pair[0] // 8] = 1
    made = resample(audio, *pair)
    assert int(made.abs().argmax()) == pytest.approx(pair[0] // 8 * pair[1] / pair[0], abs=0.5001)


def test_music_to_20_khz_survives_44_1_khz_and_back() -> None:
    spectrum = torch.fft.rfft(noise(24000, channels=1).double())
    spectrum[:, torch.fft.rfftfreq(24000, 1 / 48000) > 20_000] = 0
    music = torch.fft.irfft(spectrum, 24000).float()
    back = resample(resample(music, 48000, 44100), 44100, 48000)
    assert back.shape == music.shape
    assert level(middle(back - music)) - level(middle(music)) < -100


def test_20_khz_passes_from_48_to_44_1_khz() -> None:
    assert level(middle(resample(sine(48000, 20_000, 48000), 48000, 44100))) == pytest.approx(0, abs=0.001)


def test_equal_rates_give_the_block_back() -> None:
    block = noise(100)
    resampler = Resampler(44100, 44100)
    assert resampler.process(block) is block
    assert resampler.flush().shape == (2, 0)


def test_other_dimensions_are_kept() -> None:
    audio = noise(6000, channels=6).reshape(3, 2, 6000)
    made = resample(audio, 48000, 44100)
    assert made.shape == (3, 2, 5513)
    assert torch.equal(made[1, 1], resample(audio[1, 1], 48000, 44100))


@pytest.mark.parametrize("pair", [(0, 44100), (44100, -1)])
def test_rates_must_be_positive(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="rates must be positive"):
        Resampler(*pair)


@pytest.mark.parametrize("pair", [(44099, 44100), (191_999, 8000), (8000, 191_999)])
def test_odd_rates_have_small_tables(pair: tuple[int, int]) -> None:
    """As rows for every phase these would take 8 GB and more."""
    resampler = Resampler(*pair)
    sizes = [value.numel() for value in vars(resampler).values() if isinstance(value, Tensor)]
    assert sum(sizes) < 2**22


def test_odd_rates_agree_with_the_formula() -> None:
    """The fine table's samples against windowed sincs computed one by one, in double precision."""
    audio = noise(600, channels=1)
    made = resample(audio, 44099, 44100)[0].double().numpy()
    time = np.arange(len(made)) * 44099 / 44100
    distance = (time[:, None] - np.arange(600)) * 0.9535
    window = np.i0(10.06 * np.sqrt(np.clip(1 - (distance / 80) ** 2, 0, None))) / np.i0(10.06)
    weights = np.where(np.abs(distance) < 80, np.sinc(distance) * window * 0.9535, 0)
    assert made == pytest.approx(weights @ audio[0].double().numpy(), abs=5e-6)


BROKEN = """
import sys
import torch
from separate.audio.resample import Resampler
from separate.errors import DependencyError

Resampler(44100, 44100).process(torch.zeros(2, 10))
assert "torchaudio" not in sys.modules
try:
    Resampler(48000, 44100)
except DependencyError as error:
    print(torch.__version__)
    print(error)
"""


@pytest.mark.parametrize(
    "fault", ["OSError('libcudart.so.13: no such file')", "ImportError('undefined symbol: _ZN2at')"]
)
def test_a_torchaudio_of_another_release_is_named(tmp_path: Path, fault: str) -> None:
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text(f"raise {fault}\n")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", BROKEN],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
        check=True,
    )
    installed, *message = done.stdout.splitlines()
    assert len(message) == 1
    assert f"torchaudio does not load beside torch {installed}" in message[0]
    assert 'pip install "torch==2.11.*" "torchaudio==2.11.*"' in message[0]
