"""What arrives in a folder."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from separate.batch import watch
from separate.batch.plan import Planner
from separate.batch.watch import Arrivals, being_written
from separate.errors import InputError
from tests.batch.songs import write_song


def wait_for(arrivals: Arrivals, count: int) -> list[str]:
    """Look until so many songs have arrived."""
    found: list[str] = []
    until = time.monotonic() + 10
    while len(found) < count and time.monotonic() < until:
        found += [str(track) for _, track in arrivals.look()]
        time.sleep(0.01)
    return found


def test_songs_arrive_once_and_when_they_are_at_rest(tmp_path: Path) -> None:
    arrivals = Arrivals(str(tmp_path), tmp_path / "out", rest=0.2)
    write_song(tmp_path / "there.wav")
    write_song(tmp_path / "out" / "stem.wav")
    (tmp_path / "notes.txt").write_text("no song")
    (tmp_path / "empty.wav").touch()
    begun = time.monotonic()
    assert wait_for(arrivals, 1) == ["there"]
    assert time.monotonic() - begun >= 0.2
    write_song(tmp_path / "album" / "new.wav")
    assert wait_for(arrivals, 1) == ["album/new"]
    write_song(tmp_path / "there.wav", 0.2)  # another version
    assert wait_for(arrivals, 1) == ["there"]
    time.sleep(0.3)
    assert list(arrivals.look()) == []


def test_a_song_that_grows_is_waited_for(tmp_path: Path) -> None:
    whole = write_song(tmp_path / "elsewhere" / "song.wav", 1.0).read_bytes()
    (tmp_path / "in").mkdir()
    arrivals = Arrivals(str(tmp_path / "in"), tmp_path / "out", rest=0.15)
    with (tmp_path / "in" / "song.wav").open("wb") as file:
        for start in range(0, len(whole), len(whole) // 5):
            file.write(whole[start : start + len(whole) // 5])
            file.flush()
            assert list(arrivals.look()) == []
            time.sleep(0.05)
    assert wait_for(arrivals, 1) == ["song"]


def test_a_song_that_somebody_keeps_open_is_waited_for(tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav")
    arrivals = Arrivals(str(tmp_path), tmp_path / "out", rest=0.05)
    with song.open("ab"):
        assert being_written(str(song))
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            assert list(arrivals.look()) == []
            time.sleep(0.02)
    assert not being_written(str(song))
    with song.open("rb"):  # whoever reads it is not in the way
        assert wait_for(arrivals, 1) == ["song"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells by a signal")
def test_who_opens_a_song_that_is_looked_at_does_not_end_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    song = write_song(tmp_path / "song.wav")
    signals: list[int] = []
    control = fcntl.fcntl

    def interrupted(file: Any, command: int, *args: int) -> int:
        result = control(file, command, *args)
        if (command, *args) == (fcntl.F_SETLEASE, fcntl.F_RDLCK):
            with contextlib.suppress(BlockingIOError):
                os.open(song, os.O_WRONLY | os.O_NONBLOCK)
        return result

    monkeypatch.setattr(fcntl, "fcntl", interrupted)
    before = signal.signal(signal.SIGIO, lambda number, frame: signals.append(number))
    try:
        assert not being_written(str(song))
    finally:
        signal.signal(signal.SIGIO, before)
    assert signals == []


def test_a_song_that_seems_open_for_ever_is_not_waited_for_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares of networks may say so of every file."""
    monkeypatch.setattr(watch, "being_written", lambda song: True)
    write_song(tmp_path / "song.wav")
    begun = time.monotonic()
    assert wait_for(Arrivals(str(tmp_path), tmp_path / "out", rest=0.05), 1) == ["song"]
    assert time.monotonic() - begun >= 0.05 * watch.PATIENCE


def test_a_folder_that_cannot_be_read_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = [("locked", InputError("locked: this folder cannot be read"))]
    monkeypatch.setattr(watch, "search", lambda folder, out: iter(locked))
    arrivals = Arrivals(str(tmp_path), tmp_path / "out", rest=0.05)
    assert list(arrivals.look()) == locked
    assert list(arrivals.look()) == []
    error = locked.pop()
    assert list(arrivals.look()) == []
    locked.append(error)  # again
    assert list(arrivals.look()) == locked


def test_another_song_may_have_the_stems_of_one_that_is_gone(tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav")
    arrivals = Arrivals(str(tmp_path), tmp_path / "out", rest=0.05)
    planner = Planner(tmp_path / "out", "{track}/{stem}.{ext}", model="tiny", stems=["vocals"], ext="wav")
    planner.jobs([(str(song), "song")])
    assert wait_for(arrivals, 1) == ["song"]
    song.rename(tmp_path / "song.WAV")
    other = (str(tmp_path / "song.WAV"), "song")
    assert planner.jobs([other])[0].error
    assert list(arrivals.look()) == []
    assert arrivals.gone == {str(song)}
    planner.forget(arrivals.gone | {other[0]})
    assert not planner.jobs([other])[0].error


def test_a_song_that_is_taken_away_and_comes_again(tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav")
    arrivals = Arrivals(str(tmp_path), tmp_path / "out", rest=0.05)
    assert wait_for(arrivals, 1) == ["song"]
    song.rename(tmp_path / "song.bak")
    assert list(arrivals.look()) == []
    (tmp_path / "song.bak").rename(song)
    assert wait_for(arrivals, 1) == ["song"]
    assert not being_written(str(tmp_path / "none"))
