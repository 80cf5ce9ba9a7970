"""What several test files need: a tiny checkpoint, a song, and the command line in this process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

# Tiny models gain nothing from threads that wait for each other; on a busy machine they lose a lot.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a shell starts in the background is deaf to Ctrl-C, and so is all that it starts: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TINY = {
    "n_fft": 512,
    "hop": 128,
    "width": 16,
    "groups": 4,
    "bands": 32,
    "merge": "concat",
    "output": "mask",
    "segment": 1.0,
    "context": 0.1,
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A D2-GRU with random weights that separates a second in milliseconds. It is no good as a separator."""
    import torch

    from separate.checkpoints.weights import save
    from separate.models import build

    path = tmp_path_factory.mktemp("checkpoints") / "tiny.safetensors"
    torch.manual_seed(0)
    save(path, build("d2-gru", TINY), architecture="d2-gru", licence="MIT", training={"data": "none"})
    return path


def music(seconds: float, rate: int, channels: int = 2, seed: int = 0) -> NDArray[np.float32]:
    """Make something with notes, hits and hiss in it: (channel, time), its peak at 0.5."""
    rng = np.random.default_rng(seed)
    length = max(1, round(seconds * rate))
    time = np.arange(length) / rate
    out = np.zeros((channels, length))
    for channel in range(channels):
        for note in rng.choice([110.0, 220.0, 277.2, 329.6, 440.0, 659.3], 4):
            out[channel] += rng.uniform(0.1, 1) * np.sin(2 * np.pi * note * time + rng.uniform(0, 6))
        out[channel] += np.exp(-(time % 0.25) * 40) * rng.standard_normal(length)
    out *= 0.5 / np.abs(out).max()
    return out.astype(np.float32)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A song of 1.5 s in a 16 bit stereo WAV."""
    path = tmp_path / "song.wav"
    soundfile.write(path, music(1.5, 44100).T, 44100, "PCM_16")
    return path


@dataclass
class Outcome:
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `separate ARGS...` in this process."""
    from separate.cli import main

    def run(*args: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["separate", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Outcome(left.value.code, captured.out, captured.err)

    return run
