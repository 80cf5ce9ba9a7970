"""Memory that runs out: the system's at any moment of a run, or a device's, which then gets less to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from separate.batch.job import Job, Output
from separate.batch.local import attempt
from separate.errors import DeviceMemoryError
from separate.separator import Separator
from separate.stream import MINIMUM
from tests.conftest import music
from tests.faults.conftest import TRIALS, Bench

MIB = 2**20


def virtual_memory(pid: int) -> int:
    """Read how many bytes of addresses a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs to know how much memory a process has")
def test_any_amount_of_memory(bench: Bench, tmp_path: Path) -> None:
    """With too little memory: one line, exit code 1, no file. With enough: every file."""
    song, out = tmp_path / "song.wav", tmp_path / "out"
    soundfile.write(song, music(3.0, 44100).T, 44100)
    words = [song, "-m", bench.tiny, "-q", "--wiener", 1, "--segment", 3, "--stems", "vocals,bass", "-o", out]
    used = virtual_memory(bench.nursery.process.pid)
    codes = []
    for more in (0, 8, 32, 96, 2048):
        run = bench.nursery.run(*words, RLIMIT_AS=used + more * MIB)
        TRIALS["a limit to memory"] += 1
        codes.append(run.code)
        written = sorted(path.name for path in out.rglob("*") if path.is_file() and path.suffix != ".jsonl")
        if run.code == 0:
            assert written == ["bass.wav", "vocals.wav"]
            assert {soundfile.info(path).frames for path in out.rglob("*.wav")} == {3 * 44100}
        else:
            assert (run.code, written, len(run.said)) == (1, [], 1), run
            assert "memory" in run.said[0], run
            assert run.said[0].startswith("separate: ")
        shutil.rmtree(out, ignore_errors=True)
    assert codes[0] == 1, codes
    assert codes[-1] == 0, codes


class Cramped(torch.nn.Module):
    """A model on a device that holds so many samples of chunks at once, and no more."""

    sources = ("vocals", "rest")
    sample_rate = 44100
    segment = 3.0
    context = 0.1
    sums = True

    def __init__(self, holds: int) -> None:
        super().__init__()
        self.holds = holds

    def forward(self, mix: Tensor) -> Tensor:
        if mix.shape[0] * mix.shape[-1] > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return torch.stack([0.25 * mix, 0.75 * mix], 1)  # (batch, source, channel, time)


@pytest.mark.parametrize("chunks", [4.0, 1.2, 0.3])
def test_a_device_that_holds_little(tmp_path: Path, chunks: float) -> None:
    """The batch is halved, then the segment; it is said; and the stems are those of a device that holds more."""
    sound = music(20.0, 44100)
    soundfile.write(tmp_path / "song.wav", sound.T, 44100, "PCM_16")
    said: list[str] = []
    model = Cramped(int(chunks * 3.0 * 44100))
    separator = Separator(model, device="cpu", batch=4, say=said.append)
    job = Job(str(tmp_path / "song.wav"), {name: tmp_path / "out" / f"{name}.wav" for name in model.sources})
    result = attempt(job, separator, Output(), said.append, lambda done, total: None)
    TRIALS["a device whose memory runs out"] += 1
    assert result.status == "done", result.error
    halved = [line for line in said if line.startswith("out of memory: going on with ")]
    assert bool(halved) == (chunks < 4)
    assert any("samples" in line for line in halved) == (chunks < 1)
    song, _ = soundfile.read(tmp_path / "song.wav")
    for name, share in (("vocals", 0.25), ("rest", 0.75)):
        stem, _ = soundfile.read(tmp_path / "out" / f"{name}.wav")
        assert stem.shape == song.shape
        assert abs(stem - share * song).max() < 2**-15


def test_a_device_that_holds_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", music(2.0, 44100).T, 44100)
    job = Job(str(tmp_path / "song.wav"), {"vocals": tmp_path / "out" / "vocals.wav"})
    separator = Separator(Cramped(MINIMUM // 2), device="cpu")
    result = attempt(job, separator, Output(), lambda message: None, lambda done, total: None)
    TRIALS["a device whose memory runs out"] += 1
    assert isinstance(result.error, DeviceMemoryError)
    assert "out of memory with chunks of" in str(result.error)
    assert not (tmp_path / "out").exists()
