"""Songs and stems at URLs, on the command line: a store as S3, served on this machine, and smaller ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import pytest

from separate.batch.journal import NAME
from tests.audio.stores import Closed, Ranges, clear, contents, put, web
from tests.batch.songs import events, files, write_song
from tests.cli.test_batch_kill import Nursery
from tests.conftest import Outcome

Cli = Callable[..., Outcome]
SONGS = ("one.wav", "cd 2/two.wav", "cd 2/three & more.wav")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve S3 on this machine; yield the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until and process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep journals and temporary files of a test to itself."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    clear()
    yield tmp_path / "state"
    clear()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make an empty bucket; return its URL."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    store = fsspec.filesystem("s3")
    if store.exists("bucket"):
        store.rm("bucket", recursive=True)
    store.mkdir("bucket")
    return "s3://bucket"


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for number, name in enumerate(SONGS):
        write_song(tmp_path / "album" / name, 0.2, seed=number)
    (tmp_path / "album/notes.txt").write_text("no song")
    return tmp_path / "album"


@pytest.fixture
def bucket(s3: str, album: Path) -> str:
    """Put the album into the bucket."""
    store = fsspec.filesystem("s3")
    store.put(f"{album}/", f"{s3}/in/", recursive=True)
    put(f"{s3}/in/.hidden.wav", b"")
    return s3


def command(tiny: Path, inputs: object, out: object, *more: object) -> list[object]:
    return [inputs, "-m", tiny, "-o", out, "--wiener", 0, "--stems", "vocals,bass", *more]


def rows(done: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


def test_a_bucket_to_a_bucket(cli: Cli, tiny: Path, album: Path, bucket: str, home: Path, tmp_path: Path) -> None:
    assert cli(*command(tiny, album, tmp_path / "here")).code == 0
    here = files(tmp_path / "here")
    done = cli(*command(tiny, f"{bucket}/in", f"{bucket}/out", "--json"))
    assert done.code == 0, done.err
    assert contents(f"{bucket}/out") == here
    assert rows(done)[0]["outputs"]["bass"] == "s3://bucket/out/tiny/one/bass.wav"
    assert re.match(r"3 songs, 0:00:01; the stems need 0\.\d MB\n", done.err)

    journal = home / "separate/s3/bucket/out"
    assert [event["song"] for event in events(journal, "done")] == [
        f"{bucket}/in/one.wav", f"{bucket}/in/cd 2/three & more.wav", f"{bucket}/in/cd 2/two.wav",
    ]  # fmt: skip
    assert events(journal, "done")[0]["input"]["size"] == (album / "one.wav").stat().st_size
    assert events(journal, "done")[0]["input"]["tag"]
    assert not list((tmp_path / "temporary").iterdir())
    assert "hush" not in (journal / NAME).read_text() + done.out + done.err


def test_what_is_there_already(cli: Cli, tiny: Path, bucket: str, home: Path) -> None:
    words = command(tiny, f"{bucket}/in", f"{bucket}/out")
    assert cli(*words, "--dry-run").out.count("planned") == 3
    assert contents(f"{bucket}/out") == {}
    assert not home.exists()
    assert cli(*words, "-q").code == 0
    before = contents(f"{bucket}/out")

    again = cli(*words)
    assert again.code == 1
    assert (
        "one/vocals.wav: is there already; --force overwrites it, --skip-existing leaves it, --resume goes" in again.err
    )
    assert cli(*words, "--resume").err.count("skipped, its stems are there") == 3

    store = fsspec.filesystem("s3")
    store.rm_file(f"{bucket}/out/tiny/one/bass.wav")
    put(f"{bucket}/out/tiny/cd 2/two/bass.wav", b"mine")
    planned = cli(*words, "--resume", "--dry-run", "--json")
    assert [(row["status"], row["why"]) for row in rows(planned)] == [
        ("planned", "bass.wav is gone"), ("skipped", ""), ("planned", "bass.wav was changed"),
    ]  # fmt: skip
    assert cli(*words, "--resume", "-q").code == 0
    assert contents(f"{bucket}/out") == before

    store.cp_file(f"{bucket}/in/cd 2/two.wav", f"{bucket}/in/one.wav")
    changed = cli(*words, "--resume", "--dry-run", "--json")
    assert [row["why"] for row in rows(changed)] == ["the song was changed", "", ""]
    assert cli(*words, "--skip-existing", "--bits", 24, "-q").code == 0
    assert cli(*words, "--force", "-q").code == 0
    after = contents(f"{bucket}/out")
    assert [name for name in before if after[name] != before[name]] == ["tiny/one/bass.wav", "tiny/one/vocals.wav"]
    assert len(after) == 6


def test_patterns_lists_and_names(cli: Cli, tiny: Path, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{bucket}/in/one.wav\n{bucket}/in/one.wav\n{bucket}/in/none.wav\n")
    words = command(tiny, f"{bucket}/*/cd ?/t*", "memory://out", "--list", tmp_path / "list", "--name", "{track}.{ext}")
    words[words.index("vocals,bass")] = "bass"
    done = cli(*words, "--format", "flac")
    assert done.code == 1
    assert "separate: s3://bucket/in/none.wav: no such file\n" in done.err
    assert sorted(contents("memory://out")) == ["in/cd 2/three & more.flac", "in/cd 2/two.flac", "one.flac"]


@pytest.mark.slow
def test_a_batch_that_is_killed(
    cli: Cli, tiny: Path, bucket: str, album: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        shutil.copy(album / "one.wav", album / f"{number}.wav")
        put(f"{bucket}/in/{number}.wav", (album / "one.wav").read_bytes())
    assert cli(*command(tiny, album, tmp_path / "here", "-q")).code == 0
    here = files(tmp_path / "here")
    words = command(tiny, f"{bucket}/in", f"{bucket}/out", "-q", "--resume")
    journal = home / "separate/s3/bucket/out"
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    with closing(Nursery()) as nursery:
        for kill in (1, 2):
            pid = nursery.start(*words)
            while not (journal / NAME).exists() or len(events(journal, "done")) < 4 * kill:
                time.sleep(0.002)
            time.sleep(0.02 * kill)
            os.kill(pid, signal.SIGKILL)
            assert nursery.line() == -signal.SIGKILL
            there = contents(f"{bucket}/out")
            assert 8 * kill <= len(there) < 24
            assert there.items() <= here.items()  # nothing is there but whole files
        nursery.start(*words)
        assert nursery.line() == 0
    assert contents(f"{bucket}/out") == here
    assert len(events(journal, "begin")) <= 12 + 2  # a kill costs the song that was in work, and no other
    assert not list((tmp_path / "temporary").iterdir())


def test_a_song_that_is_replaced_while_it_is_read(cli: Cli, tiny: Path, album: Path, tmp_path: Path) -> None:
    from separate import Separator
    from separate.batch.job import Job, Output
    from separate.batch.local import attempt

    put("memory://one.wav", (album / "one.wav").read_bytes())
    job = Job("memory://one.wav", {"vocals": tmp_path / "out" / "vocals.wav"})

    def replace(done: int, total: int | None) -> None:
        put("memory://one.wav", (album / "one.wav").read_bytes())

    result = attempt(job, Separator(tiny, device="cpu"), Output(), lambda message: None, replace)
    assert str(result.error) == "memory://one.wav: was changed while it was read; separate it again when it is complete"
    assert not (tmp_path / "out").exists()


def test_memory_file_and_web(cli: Cli, tiny: Path, album: Path, tmp_path: Path) -> None:
    put("memory://top/one.wav", (album / "one.wav").read_bytes())
    with web(album, Ranges) as address:
        inputs = [f"{address}/cd%202/two.wav?token=hush", "memory://top", f"file://{album}/cd 2/three & more.wav"]
        done = cli(*inputs, *command(tiny, album / "one.wav", f"file://{tmp_path}/out", "--name", "{track} {stem}.wav"))
    assert done.code == 1  # one.wav is there twice
    assert "memory://top/one.wav" in done.err
    assert "hush" not in done.err
    assert "hush" not in (tmp_path / "out" / NAME).read_text()
    alone = cli(*command(tiny, album, tmp_path / "here", "--name", "{track} {stem}.wav"))
    assert alone.code == 0
    here = {Path(name).name: data for name, data in files(tmp_path / "here").items()}
    assert files(tmp_path / "out") == here


def test_the_journal_elsewhere(cli: Cli, tiny: Path, album: Path, home: Path, tmp_path: Path) -> None:
    words = command(tiny, album / "one.wav", "memory://out", "--journal", tmp_path / "journal", "-q")
    assert cli(*words).code == 0
    assert len(events(tmp_path / "journal", "done")) == 1
    assert not home.exists()
    assert cli(*words).code == 1
    assert cli(*words, "--resume").code == 0
    assert len(events(tmp_path / "journal", "done")) == 1


@pytest.mark.parametrize(
    ("inputs", "out", "said"),
    [
        ("s3://bucket/in", "s3://missing/out", r"s3://missing/out/\S+: there is no such bucket"),
        ("s3://missing/in/", "out", r"s3://missing/in/: there is no such bucket"),
        ("s3://bucket/nothing/", "out", r"s3://bucket/nothing/: no such file"),
        ("s3://bucket/in/*.ogg", "out", r"s3://bucket/in/\*.ogg: no audio files are called so"),
        ("s3://bucket/in/notes.txt", "out", r"s3://bucket/in/notes.txt: not a sound file that separate can read"),
        ("nope://x/y.wav", "out", r"nope://x/y.wav: nobody knows how to get there"),
    ],
)
def test_what_is_wrong(
    cli: Cli, tiny: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: str, out: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*command(tiny, inputs, out, "-q"))
    assert done.code == 1, done.err
    lines = done.err.splitlines()
    assert all(re.match(f"separate: {said}", line) for line in lines), done.err
    assert len(lines) == (3 if "missing/out" in out else 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["refused", "forbidden", "no credentials"])
def test_a_store_that_gives_nothing(
    cli: Cli, tiny: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    said = {
        "refused": "its store cannot be reached: check the address (AWS_ENDPOINT_URL for S3) and the network",
        "forbidden": "its store does not permit it: check your credentials, and what they are allowed to do",
        "no credentials": "its store wants credentials and finds none: set them up as for the store's own tools",
    }[how]
    with web(tmp_path, Closed) as address:
        if how == "no credentials":
            monkeypatch.delenv("AWS_ACCESS_KEY_ID")
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        else:
            monkeypatch.setenv("AWS_ENDPOINT_URL", address if how == "forbidden" else "http://127.0.0.1:9")
        store = fsspec.filesystem("s3")
        store.clear_instance_cache()  # it knows the other address
        begun = time.monotonic()
        done = cli(*command(tiny, f"{s3}/in/", tmp_path / "out"))
        assert time.monotonic() - begun < 60
        store.clear_instance_cache()
    assert done.code == 1
    assert done.err.startswith(f"separate: {s3}/in/: {said}"), done.err
    assert len(done.err.splitlines()) == 1
    assert "hush" not in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--player"], "--player and --report look at stems on this machine, not at memory://out: leave them out"),
        (["--report"], "--player and --report look at stems on this machine, not at memory://out: leave them out"),
    ],
)
def test_what_a_store_cannot_do(cli: Cli, tiny: Path, album: Path, words: list[str], said: str) -> None:
    done = cli(*command(tiny, album, "memory://out", *words))
    assert (done.code, done.err) == (2, f"separate: {said}\n")
