"""Stems on their way to a store."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from separate.audio.fileset import FileSet
from separate.audio.uploads import Uploads, file_set, remove_leftovers
from separate.audio.url import Url
from separate.audio.writer import StemWriter
from separate.errors import OutputError, OutputExists, UsageError
from tests.audio._out_songs import format_of, tones
from tests.audio.stores import BadStore, clear, contents


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Empty stores, and a folder for temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    clear()
    yield tmp_path / "temporary"
    clear()


def separate(out: Path | Url, kind: str, level: float = 0.25, **more: object) -> StemWriter:
    """Write two stems of a second."""
    paths = {stem: out / f"{stem}.{kind.partition(' ')[0]}" for stem in ("vocals", "other")}
    with StemWriter(paths, rate=48_000, channels=2, format=format_of(kind), **more) as writer:  # type: ignore[arg-type]
        for at in range(4):
            block = tones(2, 12_000, level=level)
            writer.write({"vocals": block, "other": block * np.float32(-(at + 1) / 4)})
    return writer


@pytest.mark.parametrize("kind", ["wav 16", "wav float", "flac 24", "ogg", "opus", "mp3", "m4a"])
def test_a_store_gets_what_a_folder_gets(tmp_path: Path, temporary: Path, kind: str) -> None:
    separate(tmp_path / "out", kind)
    separate(Url("memory://a/out"), kind)
    assert contents("memory://a/out") == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert not list(temporary.iterdir())


def test_stems_that_are_turned_down(tmp_path: Path) -> None:
    assert separate(Url("memory://out"), "wav 16", level=2).gain < 1
    separate(tmp_path / "out", "wav 16", level=2)
    assert contents("memory://out") == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_nothing_is_there_before_the_end_or_after_an_error(temporary: Path) -> None:
    paths = {stem: Url("memory://out") / f"{stem}.wav" for stem in ("vocals", "other")}
    writer = StemWriter(paths, rate=8000, channels=1, format=format_of("wav 16"))
    writer.write(dict.fromkeys(paths, np.zeros((1, 8000), np.float32)))
    assert len(list(temporary.glob("separate-stems-*/*.part"))) == 2
    assert contents("memory://out") == {}
    writer.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert contents("memory://out") == {}
    assert not list(temporary.iterdir())


def test_a_store_that_takes_one_stem_only(temporary: Path) -> None:
    BadStore.refuses = "other.wav"
    with pytest.raises(OutputError, match=r"^bad://out/vocals.wav: its store says: the disk of the store is broken$"):
        separate(Url("bad://out"), "wav 16")
    assert contents("bad://out") == {}
    assert not list(temporary.iterdir())


def test_what_is_there_already() -> None:
    separate(Url("memory://out"), "wav 16")
    with pytest.raises(OutputExists, match=r"^memory://out/vocals.wav: is there already"):
        separate(Url("memory://out"), "wav 16")
    before = contents("memory://out")
    separate(Url("memory://out"), "wav 16", level=0.1, force=True)
    after = contents("memory://out")
    assert after.keys() == before.keys()
    assert after != before


def test_two_names_for_one_url() -> None:
    with pytest.raises(UsageError, match=r"^memory://x.wav: would be both a and b; --name needs {stem}$"):
        Uploads({"a": Url("memory://x.wav"), "b": Url("memory://x.wav")})


def test_who_does_it(tmp_path: Path) -> None:
    assert isinstance(file_set({"a": tmp_path / "x"}), FileSet)
    uploads = file_set({"a": Url("memory://x")})
    assert isinstance(uploads, Uploads)
    uploads.remove()


def test_no_room_for_temporary_files(temporary: Path) -> None:
    temporary.rmdir()
    with pytest.raises(OutputError, match=rf"until it is sent it is in {temporary}: make room there, or set TMPDIR"):
        Uploads({"a": Url("memory://x")})


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_what_a_killed_process_leaves(temporary: Path) -> None:
    mine = Uploads({"a": Url("memory://x")})
    code = "import os; from separate.audio.uploads import Uploads, Url; Uploads({'a': Url('memory://x')}); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], check=False, env={"TMPDIR": str(temporary)})
    (temporary / "somebody else's").mkdir()
    assert len(list(temporary.iterdir())) == 3
    remove_leftovers()
    assert sorted(temporary.iterdir()) == sorted([mine.temporary["a"].parent, temporary / "somebody else's"])
    mine.remove()
