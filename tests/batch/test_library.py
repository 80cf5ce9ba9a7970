"""A plan on disk says what one in memory says."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from separate.batch.inputs import Found, songs
from separate.batch.job import Job
from separate.batch.library import Library, Shelf
from separate.batch.plan import Planner, plan
from separate.errors import InputError, OutputError
from tests.batch.songs import write_song

STEMS = ("vocals", "drums")


def library(out: Path) -> Library:
    return Library(Planner(out, "{track}/{stem}.{ext}", model="x", stems=STEMS, ext="wav"))


def told(job: Job) -> tuple[str, dict[str, Path], str]:
    return job.song, dict(job.outputs), str(job.error)  # type: ignore[arg-type]


def test_it_is_the_plan(tmp_path: Path) -> None:
    for name in ("b.wav", "a.wav", "album/c.wav", "out/d.wav", "a.drums.wav"):
        write_song(tmp_path / "music" / name)
    (tmp_path / "music" / "a.flac").touch()
    (tmp_path / "music" / "b.wav").rename(tmp_path / "music" / "b\udcff.wav")
    out = tmp_path / "music" / "out"
    inputs = [str(tmp_path / "music"), str(tmp_path / "music" / "a.wav"), str(tmp_path / "nothing*")]
    found = library(out)
    for name in inputs:
        found.add(songs(name, out))
    jobs = list(found.jobs(lambda job: job))
    expected = plan(inputs, out, "{track}/{stem}.{ext}", model="x", stems=STEMS, ext="wav")
    assert [*map(told, jobs)] == [*map(told, expected)]
    assert len(found) == len(jobs) == 6
    assert sum(isinstance(job.error, InputError) for job in jobs) == 1
    assert sum("is that of" in str(job.error) for job in jobs) == 1


def test_jobs_are_settled_a_few_ahead_in_order() -> None:
    found = library(Path("out"))
    found.add((f"/music/{n}.wav", str(n)) for n in range(200))
    settled: list[str] = []
    lock = threading.Lock()

    def settle(job: Job) -> Job:
        with lock:
            settled.append(job.song)
        return job

    jobs = found.jobs(settle)
    assert next(jobs).song == "/music/0.wav"
    assert len(settled) < 40
    assert [job.song for job in jobs] == [f"/music/{n}.wav" for n in range(1, 200)]


def test_it_is_not_in_memory() -> None:
    def many(number: int) -> Iterator[Found]:
        for n in range(number):
            yield f"/music/an artist/an album/{n} a song with a name.wav", f"an artist/an album/{n} a song with a name"

    def held(number: int) -> int:
        before = sys.getallocatedblocks()
        found = library(Path("out"))
        found.add(many(number))
        assert sum(1 for _ in found.jobs(lambda job: job)) == len(found) == number
        gc.collect()
        return sys.getallocatedblocks() - before

    held(100)
    assert held(2100) - held(100) < 1000  # each name would be one


def test_a_disk_that_is_full_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "none"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = library(Path("out"))
    found.disk.execute("PRAGMA max_page_count = 20")
    said = rf"^the list of songs cannot be kept in {tmp_path}: database or disk is full; make room there, or set TMPDIR"
    with pytest.raises(OutputError, match=said):
        found.add((f"/music/{n}.wav", str(n)) for n in range(2000))
    found.disk.file.close()  # whatever it says while it is read
    with pytest.raises(OutputError, match="the list of songs cannot be kept in"):
        next(found.jobs(lambda job: job))


def test_a_shelf_is_a_dict() -> None:
    shelf = Shelf(library(Path("out")).disk, "things")
    shelf["a"] = "1"
    shelf.update({"b\udcff": "2", "a": "3"})
    assert dict(shelf) == {"a": "3", "b\udcff": "2"}
    assert "a" in shelf
    assert shelf.get("c") is None
    del shelf["a"]
    assert len(shelf) == 1
    assert shelf.pop("a", None) is None
