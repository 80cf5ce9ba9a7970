"""What is there already: skipped, done again, refused, or left."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from separate.audio.url import Url
from separate.batch.existing import Known, clean, sweep
from separate.batch.job import Job, Result
from separate.batch.journal import NAME, Journal, Made
from separate.batch.stamp import stamp
from separate.errors import OutputExists
from tests.audio.stores import clear, put

MADE: Made = {"checkpoint": "0" * 64, "options": {"wiener": 0}}
OTHER: Made = {"checkpoint": "0" * 64, "options": {}}
MODEL: Made = {"checkpoint": "1" * 64, "options": {"wiener": 0}}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A song that was separated, and is in the journal."""
    (tmp_path / "song.wav").write_text("song")
    out = tmp_path / "out"
    job = Job(str(tmp_path / "song.wav"), {stem: out / "song" / f"{stem}.wav" for stem in ("vocals", "other")})
    with Journal(out, MADE) as journal:
        journal.begin(job)
        (out / "song").mkdir()
        for stem in job.outputs:
            at(job, stem).write_text(stem)
        written = {stem: stamp(path) for stem, path in job.outputs.items()}
        journal.end(Result(job, "done", input=stamp(job.song), written=written))
    return job


def at(job: Job, stem: str) -> Path:
    path = job.outputs[stem]
    assert isinstance(path, Path)
    return path


def settled(job: Job, existing: str = "refuse", *, resume: bool = False, made: Made = MADE) -> Job:
    out = at(job, "vocals").parent.parent
    with Journal(out, made) as journal:
        return Known(out, journal.records, made, existing, resume).settle(job)


def test_a_song_that_is_done(job: Job) -> None:
    assert isinstance(settled(job).error, OutputExists)
    assert str(settled(job).error).endswith("--skip-existing leaves it, --resume goes on with a batch")
    assert settled(job, "skip").skip
    assert settled(job, resume=True).skip
    assert settled(job, "force") == replace(job, replace=True)
    assert settled(job, "force", resume=True).skip


def test_a_song_that_is_new(job: Job) -> None:
    new = Job(job.song, {"vocals": at(job, "vocals").with_name("new.wav")})
    for existing, resume in (("refuse", False), ("skip", False), ("force", False), ("refuse", True)):
        assert settled(new, existing, resume=resume) == new


def test_outputs_that_are_gone(job: Job) -> None:
    at(job, "vocals").unlink()
    again = settled(job, resume=True)
    assert again.todo
    assert again.outputs == job.outputs  # all of the song: a stem depends on the others by their common gain
    assert again.why == "vocals.wav is gone"
    rest = settled(job, "skip")
    assert list(rest.outputs) == ["vocals"]
    assert not rest.replace


def test_outputs_that_were_changed(job: Job) -> None:
    at(job, "other").write_text("mine")
    again = settled(job, resume=True)
    assert (again.replace, again.why) == (True, "other.wav was changed")
    assert settled(job, "skip").skip


def test_a_copy_of_the_folder_is_as_good(job: Job) -> None:
    for path in (at(job, "vocals"), at(job, "other"), Path(job.song)):
        os.utime(path, (1, 1))
    assert settled(job, resume=True).skip


@pytest.mark.parametrize(
    ("made", "why"), [(OTHER, "was made with other options"), (MODEL, "was made by another checkpoint")]
)
def test_stems_that_were_made_otherwise(job: Job, made: Made, why: str) -> None:
    for again in (settled(job, resume=True, made=made), settled(job, "skip", made=made)):
        assert (again.todo, again.replace, again.why) == (True, True, why)
        assert again.outputs == job.outputs
    at(job, "other").write_text("mine")
    assert list(settled(job, "skip", made=made).outputs) == ["vocals"]  # what was edited is not ours any more


def test_a_song_that_was_changed(job: Job) -> None:
    Path(job.song).write_text("another song")
    for again in (settled(job, resume=True), settled(job, "skip")):
        assert (again.todo, again.replace, again.why) == (True, True, "the song was changed")


def test_another_song_whose_stems_would_be_called_the_same(job: Job, tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_text("another song")
    other = replace(job, song=str(tmp_path / "song.mp3"))
    for refused in (settled(other), settled(other, "skip"), settled(other, resume=True)):
        assert isinstance(refused.error, OutputExists)
        assert str(refused.error) == (
            f"{other.song}: its output {job.outputs['vocals']} is that of {job.song} too; "
            "choose another --out or --name, or --force overwrites it"
        )
    assert settled(replace(other, outputs={"vocals": tmp_path / "out/song/new.wav"}), resume=True).todo
    assert settled(other, "force").replace
    assert settled(other, "force", resume=True).replace
    at(job, "other").unlink()
    assert settled(other, "skip").error  # no stems of two songs side by side
    (tmp_path / "song.mp3").write_text("song")
    assert settled(other, "skip", made=OTHER).replace  # it is the same song, by another name


def test_a_song_by_another_name_that_was_changed(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    Path(job.song).write_text("another version")
    monkeypatch.chdir(tmp_path)
    for name in ("song.wav", "link/song.wav", "./x/../song.wav"):
        assert settled(replace(job, song=name), resume=True).why == "the song was changed"
    Path(job.song).unlink()
    Path(job.song).symlink_to("version 2.wav")  # where songs are kept by their contents, links lead to them
    (tmp_path / "version 2.wav").write_text("version 2")
    assert settled(job, resume=True).why == "the song was changed"


def test_a_journal_from_before_there_were_names(job: Job, tmp_path: Path) -> None:
    events = [json.loads(line) for line in (tmp_path / "out" / NAME).read_text().splitlines()]
    events[-1].pop("names")
    (tmp_path / "out" / NAME).write_text("".join(f"{json.dumps(event)}\n" for event in events))
    Path(job.song).write_text("another version")
    assert settled(job, resume=True).why == "the song was changed"
    (tmp_path / "song.mp3").write_text("another song")
    assert "is that of" in str(settled(replace(job, song=str(tmp_path / "song.mp3")), resume=True).error)


def test_files_that_the_journal_does_not_know(job: Job, tmp_path: Path) -> None:
    stranger = Job(job.song, {"vocals": tmp_path / "out" / "stranger.wav"})
    (tmp_path / "out" / "stranger.wav").write_text("mine")
    refused = settled(stranger, resume=True)
    assert "is there already; --force overwrites it" in str(refused.error)
    assert "the journal does not know it" in str(refused.error)
    assert settled(stranger, "skip").skip
    assert settled(stranger, "force", resume=True).replace


def test_a_run_that_was_killed(job: Job, tmp_path: Path) -> None:
    second = Job(job.song, {stem: tmp_path / "out" / "second" / f"{stem}.wav" for stem in ("vocals", "other")})
    with Journal(tmp_path / "out", MADE) as journal:
        journal.begin(second)
        (tmp_path / "out" / "second").mkdir()
        for name in ("vocals.wav", ".0123456789ab.part", ".keep.part"):
            (tmp_path / "out" / "second" / name).write_text("half")
        (tmp_path / "out" / ".ba9876543210.part").write_text("half")
        (tmp_path / "out" / "song" / ".ba9876543210.part").write_text("somebody else's")
    with Journal(tmp_path / "out", MADE) as journal:
        sweep(journal.records, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out" / "second")) == [".keep.part", "vocals.wav"]
    assert (tmp_path / "out" / "song" / ".ba9876543210.part").exists()
    assert not (tmp_path / "out" / ".ba9876543210.part").exists()
    again = settled(second, resume=True)
    assert (again.todo, again.replace, again.why) == (True, True, "was interrupted")
    assert settled(second, "skip").outputs == second.outputs
    assert isinstance(settled(second).error, OutputExists)


def test_folders_are_removed_if_they_are_empty(tmp_path: Path) -> None:
    (tmp_path / "out" / "album" / "song").mkdir(parents=True)
    (tmp_path / "out" / "album" / "song" / ".0123456789ab.part").touch()
    (tmp_path / "out" / "journal").touch()
    clean([tmp_path / "out" / "album" / "song", tmp_path / "none"], tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["journal"]
    (tmp_path / "own" / "song").mkdir(parents=True)
    clean([tmp_path / "own" / "song", tmp_path / "own"], tmp_path / "own")
    assert os.listdir(tmp_path / "own") == []


def test_a_song_without_a_file(job: Job, tmp_path: Path) -> None:
    stdin = Job("-", {"vocals": tmp_path / "out/song/stdin.wav"})
    with Journal(tmp_path / "out", MADE) as journal:
        journal.begin(stdin)
        at(stdin, "vocals").write_text("stem")
        journal.end(Result(stdin, "done", written={"vocals": stamp(at(stdin, "vocals"))}))
    assert settled(stdin, resume=True).why == "the song was changed"  # nobody knows whether it was
    assert f"is that of {job.song} too" in str(settled(Job("-", job.outputs), resume=True).error)


def test_many_songs_at_once(job: Job, tmp_path: Path) -> None:
    new = Job(job.song, {"vocals": tmp_path / "out" / "new.wav"})
    with Journal(tmp_path / "out", MADE) as journal:
        known = Known(tmp_path / "out", journal.records, MADE, "refuse", resume=True)
        found = known.settle_all([job, new] * 20)
    assert [each.skip for each in found] == [True, False] * 20


def test_stems_at_a_url(tmp_path: Path) -> None:
    clear()
    out = Url("memory://out")
    song = put("memory://song.wav", b"song")
    job = Job(song, {"vocals": out / "song" / "vocals.wav"})
    with Journal(tmp_path / "state", MADE, out) as journal:
        known = Known(out, journal.records, MADE, "refuse", resume=True)
        assert known.settle(job) == job
        journal.begin(job)
        assert known.settle(job).why == "was interrupted"
        put("memory://out/song/vocals.wav", b"stem")
        written = {"vocals": stamp(job.outputs["vocals"])}
        journal.end(Result(job, "done", input=stamp(song), written=written))
        assert known.settle(job).skip
        put(song, b"another")
        assert known.settle(job).why == "the song was changed"
        put("memory://out/song/vocals.wav", b"mine")
        assert known.settle(job).why == "the song was changed"
        assert "--force overwrites it" in str(Known(out, journal.records, MADE, "refuse").settle(job).error)
        clear()
        assert not known.settle(job).skip


def test_a_store_that_does_not_say(tmp_path: Path) -> None:
    job = Job("song.wav", {"vocals": Url("nope://out/vocals.wav")})
    with Journal(tmp_path, MADE, Url("nope://out")) as journal:
        known = Known(Url("nope://out"), journal.records, MADE, "refuse")
        assert str(known.settle(job).error).startswith("nope://out/vocals.wav: nobody knows how to get there")
