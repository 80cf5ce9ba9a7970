"""Batches on the command line: resumed, planned, listed, side by side, summed up."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from separate import Separator
from separate.batch.job import Job, Output
from separate.batch.journal import NAME, Journal
from separate.batch.local import attempt
from separate.cli.process import interruptible
from separate.cli.run import resuming
from tests.batch.songs import events, files, write_song
from tests.conftest import Outcome, music

Cli = Callable[..., Outcome]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder of four songs, one of them broken."""
    for name in ("one.wav", "two.wav", "cd 2/three.wav"):
        write_song(tmp_path / "album" / name, seed=len(name))
    (tmp_path / "album" / "broken.wav").write_bytes((tmp_path / "album" / "one.wav").read_bytes()[:300])
    return tmp_path / "album"


def command(album: Path, tiny: Path, *more: object) -> list[object]:
    return [album, "-m", tiny, "-o", album.parent / "out", "--wiener", 0, "--stems", "vocals,bass", *more]


def begun(album: Path) -> int:
    return len(events(album.parent / "out", "begin"))


def test_one_broken_song_does_not_stop_the_rest_and_the_end_sums_up(cli: Cli, tiny: Path, album: Path) -> None:
    done = cli(*command(album, tiny))
    assert done.code == 1
    assert done.out == ""
    assert len(files(album.parent / "out")) == 6
    lines = done.err.splitlines()
    assert re.fullmatch(r"3 songs, 0:00:00; the stems need \d+\.\d MB, .* are free", lines[0])
    assert re.search(r"; 4 of 4$", lines[-5])
    assert re.fullmatch(r"done +3  0:00:00 of music in 0:00:\d\d, \d+\.\d x real time", lines[-4])
    assert lines[-3] == "skipped       0"
    assert lines[-2] == "failed        1"
    assert lines[-1].startswith(f"    {album / 'broken.wav'}: its header promises")


def test_what_became_of_all_songs_as_json(cli: Cli, tiny: Path, album: Path) -> None:
    done = cli(*command(album, tiny, "--json", "-q"))
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(row["status"] for row in rows) == ["done", "done", "done", "failed", "summary"]
    summary = rows[-1]
    assert (summary["done"], summary["skipped"], summary["failed"]) == (3, 0, 1)
    assert summary["audio_seconds"] == pytest.approx(0.3)
    assert summary["x_real_time"] > 0
    assert len(done.err.splitlines()) == 1


def test_resume_does_what_is_missing_and_no_more(cli: Cli, tiny: Path, album: Path) -> None:
    out = album.parent / "out"
    first = cli(*command(album, tiny))
    before = files(out)
    (out / "tiny/one/vocals.wav").unlink()
    (out / "tiny/two/bass.wav").write_bytes(before["tiny/two/bass.wav"][:50])
    write_song(album / "broken.wav", seed=5)
    assert begun(album) == 3

    again = cli(*command(album, tiny, "--resume"))
    assert (first.code, again.code) == (1, 0)
    assert begun(album) == 6
    assert "three.wav: skipped, its stems are there" in again.err
    after = files(out)
    assert len(after) == 8
    assert before.items() <= after.items()

    write_song(album / "one.wav", seed=9)
    assert cli(*command(album, tiny, "--resume", "-q")).code == 0
    assert begun(album) == 7
    assert files(out)["tiny/one/bass.wav"] != before["tiny/one/bass.wav"]
    assert cli(*command(album, tiny, "--resume", "-q")).code == 0
    assert begun(album) == 7


def test_skip_existing_compares_options(cli: Cli, tiny: Path, album: Path) -> None:
    out = album.parent / "out"
    cli(*command(album, tiny))
    before = files(out)
    cli(*command(album, tiny, "--skip-existing"))
    assert begun(album) == 3
    (out / "tiny/one/bass.wav").write_text("mine")
    cli(*command(album, tiny, "--skip-existing", "--bits", 24))
    assert begun(album) == 6
    after = files(out)
    assert after["tiny/one/bass.wav"] == b"mine"
    assert after["tiny/one/vocals.wav"] != before["tiny/one/vocals.wav"]


def test_a_journal_elsewhere_leaves_empty_folders_of_the_user(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "own/x/out"
    out.mkdir(parents=True)
    out.chmod(0o750)
    args = (tmp_path / "none.wav", "-m", tiny, "-o", out, "--journal", tmp_path / "state")
    assert cli(*args).code == 1
    assert out.stat().st_mode & 0o777 == 0o750
    write_song(tmp_path / "none.wav")
    assert cli(*args).code == 0
    assert out.stat().st_mode & 0o777 == 0o750
    strange = tmp_path / "two/tiny/none/vocals.wav"
    strange.parent.mkdir(parents=True)
    strange.write_text("mine")
    other = cli(tmp_path / "none.wav", "-m", tiny, "-o", tmp_path / "two", "--journal", tmp_path / "state", "--resume")
    assert (other.code, strange.read_text()) == (1, "mine")
    assert "the journal does not know it" in other.err


@pytest.mark.parametrize("more", ["--skip-existing", "--resume"])
def test_two_albums_with_one_track_name(cli: Cli, tiny: Path, tmp_path: Path, more: str) -> None:
    one, two = (write_song(tmp_path / album / "01.wav", seed=seed) for seed, album in enumerate(("one", "two")))
    command = ["-m", tiny, "-o", tmp_path / "out", "--wiener", 0, "--stems", "bass"]
    assert cli(one, *command).code == 0
    before = files(tmp_path / "out")
    refused = cli(two, *command, more)
    assert refused.code == 1
    assert f"{two}: its output {tmp_path}/out/tiny/01/bass.wav is that of {one} too; choose another" in refused.err
    assert files(tmp_path / "out") == before
    write_song(one, seed=2)  # a song that was changed is another thing
    assert cli(one, *command, more).code == 0
    assert files(tmp_path / "out") != before


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["a.wav", "b.wav"], "separate --resume a.wav b.wav"),
        (["a b.wav", "--skip-existing"], "separate --resume 'a b.wav'"),
        (["--out", "x", "--", "-a.wav"], "separate --resume --out x -- -a.wav"),
        (["a.wav", "--resume"], "separate --resume a.wav"),
    ],
)
def test_the_command_that_goes_on(monkeypatch: pytest.MonkeyPatch, given: list[str], wanted: str) -> None:
    monkeypatch.setattr(sys, "argv", ["separate", *given])
    assert resuming() == wanted


def test_two_batches_in_one_folder(cli: Cli, tiny: Path, album: Path) -> None:
    with Journal(album.parent / "out", {}):
        refused = cli(*command(album, tiny))
        assert refused.code == 1
        assert f"process {os.getpid()} on " in refused.err
        assert "wait until it is through, or choose another --out" in refused.err
        assert len(refused.err.splitlines()) == 1
    assert not (album.parent / "out").exists()


def test_a_journal_that_was_cut_off(cli: Cli, tiny: Path, album: Path) -> None:
    cli(*command(album, tiny))
    journal = album.parent / "out" / NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:100])
    again = cli(*command(album, tiny, "--resume"))
    assert "1 lines of the journal cannot be read: what they tell of is not known" in again.err
    assert begun(album) == 4
    assert cli(*command(album, tiny, "--resume", "-q")).code == 1
    assert begun(album) == 4


def test_a_dry_run_says_all_and_does_nothing(cli: Cli, tiny: Path, album: Path) -> None:
    before = files(album.parent)
    done = cli(*command(album, tiny, "--dry-run"))
    assert done.code == 1
    assert files(album.parent) == before
    assert not (album.parent / "out").exists()
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == ["failed", "planned", "planned", "planned"]
    assert lines[1] == f"planned   0:00:00  {album / 'one.wav'}"
    assert "3 songs, 0:00:00; the stems need" in done.err
    assert re.search(r"about \d+\.\d x real time with one process: 0:00:\d\d\n1 process: about \d+\.\d .B", done.err)

    cli(*command(album, tiny))
    (album / "broken.wav").unlink()
    (album.parent / "out/tiny/two/bass.wav").unlink()
    planned = cli(*command(album, tiny, "--dry-run", "--resume", "--json"))
    assert planned.code == 0
    rows = {Path(row["song"]).name: row for row in map(json.loads, planned.out.splitlines())}
    assert {name: row["status"] for name, row in rows.items()} == {
        "one.wav": "skipped",
        "two.wav": "planned",
        "three.wav": "skipped",
    }
    assert rows["two.wav"]["why"] == "bass.wav is gone"
    assert rows["two.wav"]["audio_seconds"] == 0.1
    assert cli(*command(album, tiny, "--dry-run", "--wiener", 1)).out.count("is there already") == 3


def test_lists_and_patterns(cli: Cli, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (album.parent / "list.txt").write_text(f"{album / 'one.wav'}\n\n{album}/**/t*.wav\n{album / 'one.wav'}\n")
    inputs = command(album, tiny, "--list", album.parent / "list.txt", "-q")[1:]
    assert cli(*inputs).code == 0
    assert sorted(event["song"] for event in events(album.parent / "out", "done")) == [
        str(album / "cd 2/three.wav"),
        str(album / "one.wav"),
        str(album / "two.wav"),
    ]
    assert (album.parent / "out/tiny/cd 2/three/bass.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to separate: name songs or folders"),
        (["--list", "none.txt"], "--list none.txt: cannot be read: No such file"),
        (["--list", os.devnull], "names no input"),
        (["-", "--list", "-"], "- and --list - both want standard input"),
        (["x.wav", "--resume", "--skip-existing"], "--skip-existing leaves what is there, --resume does again"),
        (["x.wav", "--jobs", "0"], "--jobs"),
        (["x.wav", "--jobs", "10000000000"], "--jobs"),
        (["x.wav", "--per-gpu", "20000"], "--per-gpu"),
        (["x.wav", "--journal", "s3://bucket/j"], "--journal s3://bucket/j: nothing can be appended to at a URL"),
        (["x.wav", "--cluster", ""], '--cluster "": no address'),
        (["watch", ".", "--cluster", ""], '--cluster "": no address'),
        (["x.wav", "--jobs", "1", "--device", "cuda:0,1"], "fewer than the devices"),
        (["x.wav", "--stems", "bass", "--out", "-", "--jobs", "2"], "--out - writes one song"),
        (["x.wav", "--stems", "bass", "--out", "-", "--dry-run"], "--dry-run and --out - both want"),
        (["watch", "nowhere"], "nowhere: no such folder to watch"),
        (["watch", "/", "--out", "//"], "--out //: is the folder that is watched; choose another"),
        (["watch", ".", "--out", "-"], "what is watched becomes files"),
    ],
)
def test_wrong_usage(cli: Cli, tiny: Path, arguments: list[str], said: str) -> None:
    done = cli(*arguments, "-m", tiny)
    assert done.code == 2, done.err
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_song_that_grows_while_it_is_read(tiny: Path, tmp_path: Path) -> None:
    song = tmp_path / "song.flac"
    soundfile.write(song, music(0.5, 8000, 1).T, 8000)

    def grow(done: int, total: int | None) -> None:
        with song.open("ab") as file:
            file.write(b"more")

    job = Job(str(song), {"vocals": tmp_path / "out" / "vocals.wav"})
    result = attempt(job, Separator(tiny, device="cpu"), Output(), lambda message: None, grow)
    assert str(result.error) == f"{song}: was changed while it was read; separate it again when it is complete"
    assert not (tmp_path / "out").exists()


def test_a_mistake_of_ours_fails_one_song_only(tiny: Path, tmp_path: Path) -> None:
    def stumble(done: int, total: int | None) -> None:
        raise ZeroDivisionError("oh")

    job = Job(str(write_song(tmp_path / "song.wav")), {"vocals": tmp_path / "out" / "vocals.wav"})
    result = attempt(job, Separator(tiny, device="cpu"), Output(), lambda message: None, stumble)
    assert result.status == "failed"
    assert re.search(
        r"song.wav: ZeroDivisionError in test_batch.py, line \d+: oh; this is a mistake", str(result.error)
    )
    assert not (tmp_path / "out").exists()


def test_an_interrupt_that_a_codec_swallows_is_not_lost() -> None:
    with interruptible() as check:
        check()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            pass  # as cffi does
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@contextlib.contextmanager
def started(arguments: list[object]) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a process of its own, which does not outlive the test."""
    words = [sys.executable, "-m", "separate", *map(str, arguments)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    assert true()


def workers(process: subprocess.Popen[str]) -> list[int]:
    """Find the children that separate, which are those with threads."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if len(os.listdir(f"/proc/{pid}/task")) > 1]


@pytest.mark.slow
def test_side_by_side(tiny: Path, album: Path, cli: Cli) -> None:
    """Two processes make what one makes. If one is killed, its song fails. Ctrl-C cleans up and says how to go on."""
    cli(*command(album, tiny))
    alone, out = files(album.parent / "out"), album.parent / "out"
    out.rename(album.parent / "alone")
    for name in ("x.wav", "y.wav"):  # 20 minutes each
        soundfile.write(album / name, music(1.0, 8000, 1).repeat(1200, 1).T, 8000, "PCM_16")
    with started(command(album, tiny, "--jobs", 2)) as process:
        wait_until(lambda: all(list(out.glob(f"tiny/{name}/*.part")) for name in "xy"))
        os.kill(workers(process)[0], signal.SIGKILL)
        wait_until(lambda: len(events(out, "failed")) == 1 and len(events(out, "done")) == 3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "its process ended unexpectedly (Killed); if memory ran out, try fewer --jobs" in said, said
    assert re.search(r"[45] of 6 songs are through; go on with: separate --resume .*\n", said)
    assert said.endswith("\nseparate: interrupted; what was not complete has been removed\n")
    assert files(out) == alone
    assert not list(out.rglob("*.part"))


@pytest.mark.slow
def test_watch(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / NAME).write_text("{\n")
    words = ["watch", tmp_path / "in", "-m", tiny, "-o", out, "--wiener", 0, "--rest", 0.3, "--stems", "bass"]
    with started(words) as process:
        write_song(tmp_path / "in" / "first.wav")
        (tmp_path / "in" / "bad.wav").write_bytes(b"RIFF, but no more")
        wait_until((out / "tiny/first/bass.wav").exists)
        write_song(tmp_path / "in" / "album/second.wav")
        wait_until(lambda: len(events(out, "done")) == 2)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1  # one song could not be read
    assert "bad.wav" in said
    assert "1 lines of the journal cannot be read" in said
    assert list(files(out)) == ["tiny/album/second/bass.wav", "tiny/first/bass.wav"]
