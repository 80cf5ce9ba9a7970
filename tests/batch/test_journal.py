"""The journal: what it says after crashes, in other versions, and to two batches at once."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from separate.audio.url import Url, location
from separate.batch.job import Job, Result
from separate.batch.journal import NAME, Interrupted, Journal, journal_folder, read_records
from separate.batch.stamp import Stamp, stamp
from separate.errors import InputError, OutputError

MADE = {"checkpoint": "0" * 64, "options": {"wiener": 0}}


def job(folder: Path, name: str = "song") -> Job:
    return Job(
        f"{name}.wav", {"vocals": folder / "m" / name / "vocals.wav", "other": folder / "m" / name / "other.wav"}
    )


def do(journal: Journal, job: Job) -> Result:
    """Write files as if they were stems, and note it."""
    journal.begin(job)
    written = {}
    for stem, place in job.outputs.items():
        path = Path(str(place))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{stem} of {job.song!r}")
        written[stem] = stamp(path)
    result = Result(job, "done", seconds=1.0, audio_seconds=2.0, written=written)
    journal.end(result)
    return result


def test_what_was_done_is_known_later(tmp_path: Path) -> None:
    with Journal(tmp_path / "new" / "out", MADE) as journal:
        result = do(journal, job(tmp_path / "new" / "out"))
    records = read_records(tmp_path / "new" / "out")
    assert not records.begun
    assert not records.damaged
    record = records.done["m/song/vocals.wav"]
    assert record.output == result.written["vocals"]
    assert record.made == MADE
    assert record.input is None


def test_a_song_that_was_begun_and_did_not_end(tmp_path: Path) -> None:
    with Journal(tmp_path, MADE) as journal:
        do(journal, job(tmp_path))
        journal.begin(job(tmp_path, "second"))
        journal.begin(job(tmp_path, "third"))
        journal.end(Result(job(tmp_path, "third"), "failed", InputError("third.wav: is empty")))
    records = read_records(tmp_path)
    assert set(records.begun) == {"m/second/vocals.wav", "m/second/other.wav"}
    assert set(records.done) == {"m/song/vocals.wav", "m/song/other.wav"}


def test_what_an_interrupted_song_has_left_is_ours(tmp_path: Path) -> None:
    """Its process was killed when some of its files had their names."""
    with Journal(tmp_path / "out", MADE) as journal:
        journal.begin(job(tmp_path / "out"))
        (tmp_path / "out/m/song").mkdir(parents=True)
        (tmp_path / "out/m/song/vocals.wav").write_text("vocals")
        journal.end(Result(job(tmp_path / "out"), "failed", Interrupted("song.wav: its process ended")))
    assert "m/song/vocals.wav" in read_records(tmp_path / "out").begun


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    with Journal(tmp_path, MADE) as journal:
        do(journal, job(tmp_path))
    whole = (tmp_path / NAME).read_bytes()
    for length in (len(whole) - 1, len(whole) - 100, len(whole) - 200):
        (tmp_path / NAME).write_bytes(whole[:length])
        with Journal(tmp_path, MADE) as journal:
            assert ("m/song/vocals.wav" in journal.records.done) == (length == len(whole) - 1)
            do(journal, job(tmp_path, "next"))
        assert read_records(tmp_path).done.keys() >= {"m/next/vocals.wav", "m/next/other.wav"}
        assert (tmp_path / NAME).read_bytes().startswith(whole[:length])  # nothing is ever taken back


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60) | st.sampled_from([b'{"v": 1}', b'{"v": 1, "event": "done"}', b"[" * 99999])))
def test_any_damage_is_passed_over(tmp_path: Path, lines: list[bytes]) -> None:
    (tmp_path / NAME).unlink(missing_ok=True)
    with Journal(tmp_path, MADE) as journal:
        do(journal, job(tmp_path))
    with (tmp_path / NAME).open("ab") as file:
        file.write(b"\n".join(lines))
    assert "m/song/vocals.wav" in read_records(tmp_path).done


def test_facts_of_wrong_kinds_are_damage(tmp_path: Path) -> None:
    lines = [
        {"v": 1, "event": "done", "song": "x", "input": None, "made": 7, "outputs": {"vocals": {"file": "a"}}},
        {"v": 1, "event": "done", "song": "x", "input": {"what": 1}, "made": {}, "outputs": {}},
        {"v": 1, "event": "begin", "song": "x", "outputs": {"vocals": ["a"]}},
        {"v": 1, "event": "begin", "song": "x", "outputs": 5},
        {"v": 1, "event": "done", "song": "x", "input": None, "made": {}, "outputs": {}, "gain": 10**400},
        {"v": 1, "event": "done", "song": "x", "names": 5, "input": None, "made": {}, "outputs": {}},
    ]
    (tmp_path / NAME).write_text("\n".join(map(json.dumps, lines)))
    records = read_records(tmp_path)
    assert records.damaged == 6
    assert not records.done
    assert not records.begun


def test_a_journal_of_another_version(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"v": 2, "event": "begun"}\n')
    with pytest.raises(OutputError, match="this journal is of version 2, 1 is known here: update separate"):
        Journal(tmp_path, MADE)
    assert (tmp_path / NAME).read_text() == '{"v": 2, "event": "begun"}\n'


def test_two_batches_at_once(tmp_path: Path) -> None:
    hold = f"""
import time
from pathlib import Path
from separate.batch.journal import Journal
journal = Journal(Path({str(tmp_path)!r}), {{}})
print("held", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=f"process {other.pid} on .* writes there just now: wait until it is"):
            Journal(tmp_path, MADE)
        other.kill()
    with Journal(tmp_path, MADE) as journal:  # whom a dead process stops is nobody
        do(journal, job(tmp_path))


def test_a_journal_that_was_removed_while_somebody_waited(tmp_path: Path) -> None:
    with Journal(tmp_path / "out", MADE):
        pass
    assert not (tmp_path / "out").exists()  # a new journal that tells of nothing is not left behind
    with Journal(tmp_path / "out", MADE) as journal:
        do(journal, job(tmp_path / "out"))
        (tmp_path / "out" / NAME).unlink()
        with pytest.raises(OutputError, match="out: another run writes there just now"):  # the folder is still held
            Journal(tmp_path / "out", MADE)
    with Journal(tmp_path / "out", MADE) as second:
        do(second, job(tmp_path / "out"))
    assert "m/song/vocals.wav" in read_records(tmp_path / "out").done


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device; make room"):
        Journal(tmp_path, MADE)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="out: is a file, not a folder: choose another with --out"):
        Journal(tmp_path / "out", MADE)
    with pytest.raises(OutputError, match="out: is a file, not a folder: choose another with --journal"):
        Journal(tmp_path / "out", MADE, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_journal_that_cannot_be_elsewhere(tmp_path: Path) -> None:
    said = "x: the journal cannot be written there: No such file or directory; choose another folder with --journal"
    with pytest.raises(OutputError, match=f"^/proc/{said}$"):
        Journal(Path("/proc/x"), MADE, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_line_that_does_not_fit_any_more(tmp_path: Path) -> None:
    with Journal(tmp_path, MADE) as journal:
        do(journal, job(tmp_path))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / NAME).stat().st_size + 20, before[1]))
        try:
            with pytest.raises(OutputError, match="cannot be written"):
                journal.begin(job(tmp_path, "second"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        do(journal, job(tmp_path, "third"))
    records = read_records(tmp_path)
    assert records.damaged == 1
    assert "m/third/vocals.wav" in records.done
    assert "m/second/vocals.wav" not in records.begun


def test_names_that_are_no_text(tmp_path: Path) -> None:
    song = Job(os.fsdecode(b"\xff\n.wav"), {"vocals": tmp_path / os.fsdecode(b"\xff\n.wav")})
    with Journal(tmp_path, MADE) as journal:
        do(journal, song)
    assert os.fsdecode(b"\xff\n.wav") in read_records(tmp_path).done


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert journal_folder(tmp_path / "out") == tmp_path / "out"
    assert journal_folder(location("s3://bucket/a:b/out")) == tmp_path / "separate/s3/bucket/a%3Ab/out"
    assert journal_folder(location("s3://bucket"), str(tmp_path / "mine")) == tmp_path / "mine"
    assert journal_folder(location("s3://bucket"), f"file://{tmp_path}") == tmp_path
    monkeypatch.delenv("XDG_STATE_HOME")
    assert journal_folder(Url("gs://x")) == Path.home() / ".local/state/separate/gs/x"


def test_one_journal_of_two_folders_tells_them_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with Journal(tmp_path / "state", MADE, one) as journal:
        do(journal, job(one))
    with Journal(tmp_path / "state", MADE, two) as journal:
        assert not journal.records.done
    assert "m/song/vocals.wav" in read_records(tmp_path / "state", one).done
    assert not read_records(tmp_path / "state", two).done
    assert not two.exists()


def test_one_journal_of_two_folders_at_once(tmp_path: Path) -> None:
    said = r"state: the journal is in use by process \d+ on .*: wait until it is through, or choose another --journal"
    with Journal(tmp_path / "state", MADE, tmp_path / "one"):
        with pytest.raises(OutputError, match=said):
            Journal(tmp_path / "state", MADE, tmp_path / "two")
        with pytest.raises(OutputError, match=r"one: process .* writes there just now: .* choose another --out"):
            Journal(tmp_path / "state", MADE, tmp_path / "one")
        assert not (tmp_path / "two").exists()


def test_the_journal_of_a_folder_is_of_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Journal(tmp_path / "out", MADE, Path("out")) as journal:
        do(journal, job(Path("out")))
    for own in (Path("out"), tmp_path / "out", tmp_path / "x/../out"):
        assert "m/song/vocals.wav" in read_records(tmp_path / "out", own).done
    assert not read_records(tmp_path / "out", tmp_path / "other").done


def test_a_folder_that_may_be_written_to_but_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("separate.batch.journal.os.open", refuse)
    with Journal(tmp_path / "out", MADE) as journal:
        do(journal, job(tmp_path / "out"))


def test_a_folder_is_written_by_one_batch_whatever_its_journal(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Journal(tmp_path / "state", MADE, out):
        for other in (out, tmp_path / "state 2"):
            with pytest.raises(OutputError, match="out: another run writes there just now: wait"):
                Journal(other, MADE, out)
        assert not (tmp_path / "state 2").exists()
    with Journal(tmp_path / "state 2", MADE, out):
        pass


def test_of_stems_at_a_url(tmp_path: Path) -> None:
    out = Url("memory://out")
    song = Job("https://me:hush@host/song.wav?sig=hush", {"vocals": out / "m" / "vocals.wav"})
    with Journal(tmp_path / "state", MADE, out) as journal:
        journal.begin(song)
        assert list(journal.records.begun) == ["m/vocals.wav"]
        journal.end(Result(song, "done", written={"vocals": Stamp(3, 0, "", "tag")}))
        with pytest.raises(OutputError, match=r"^memory://out: process \d+ on .* writes there just now"):
            Journal(tmp_path / "state", MADE, out)
    assert read_records(tmp_path / "state", out).done["m/vocals.wav"].output == Stamp(3, 0, "", "tag")
    assert "hush" not in (tmp_path / "state" / NAME).read_text()
