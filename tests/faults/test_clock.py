"""Clocks that jump: an hour forth, ten years back, while songs are separated. Files have times from anywhere."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
import soundfile

from separate.batch.journal import NAME
from tests.conftest import Outcome, music
from tests.faults.conftest import TRIALS

Cli = Callable[..., Outcome]


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both clocks jump at every look: nobody may rely on one, though `monotonic` should not do so."""
    for name in ("time", "monotonic"):
        jumps, real = cycle([0.0, 3600.0, -3e8, 1e-9, -1e-9, 3e8, 0.0]), getattr(time, name)
        monkeypatch.setattr(time, name, lambda jumps=jumps, real=real: real() + next(jumps))


@pytest.mark.usefixtures("jumping")
@pytest.mark.parametrize("terminal", [False, True])
def test_clocks_that_jump(
    tmp_path: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """Only the figures about time are wrong."""
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", music(0.3, 8000, 1).T, 8000)
    if terminal:
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    words = (*tmp_path.glob("*.wav"), "-m", tiny, "-o", tmp_path / "out", "--wiener", 0, "--json")
    done = cli(*words)
    TRIALS["clocks that jump, times from anywhere"] += 1
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["status"] for row in rows] == ["done"] * 3 + ["summary"]
    assert len(list(tmp_path.rglob("out/tiny/*/*.wav"))) == 12
    again = cli(*words, "--resume")
    assert [json.loads(line)["status"] for line in again.out.splitlines()] == ["skipped"] * 3 + ["summary"]


@pytest.mark.parametrize("seconds", [-(10**9), 0, 1, 2**33])
def test_files_from_other_times(tmp_path: Path, tiny: Path, cli: Cli, seconds: int) -> None:
    """1938, 1970 and 2242: a song's time says only whether it is the same as before."""
    song = tmp_path / "song.wav"
    soundfile.write(song, music(0.3, 8000, 1).T, 8000)
    os.utime(song, (seconds, seconds))
    words = (song, "-m", tiny, "-o", tmp_path / "out", "--wiener", 0, "--json", "--resume")
    TRIALS["clocks that jump, times from anywhere"] += 1
    statuses = [json.loads(cli(*words).out.splitlines()[0])["status"] for _ in range(2)]
    assert statuses == ["done", "skipped"]
    soundfile.write(song, music(0.3, 8000, 1, seed=1).T, 8000)
    os.utime(song, (seconds + 1, seconds + 1))
    assert json.loads(cli(*words).out.splitlines()[0])["status"] == "done"


@pytest.mark.parametrize("year", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", "yesterday"])
def test_a_journal_from_other_times(tmp_path: Path, tiny: Path, cli: Cli, year: str) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, music(0.3, 8000, 1).T, 8000)
    words = (song, "-m", tiny, "-o", tmp_path / "out", "--wiener", 0, "--json", "--resume")
    assert cli(*words).code == 0
    TRIALS["clocks that jump, times from anywhere"] += 1
    journal = tmp_path / "out" / NAME
    events = [{**json.loads(line), "time": year} for line in journal.read_text().splitlines()]
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert json.loads(cli(*words).out.splitlines()[0])["status"] == "skipped"
