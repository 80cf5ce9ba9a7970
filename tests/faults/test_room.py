"""Disks and limits of every size: too small for a song, a header, a name; and places that nothing can be written to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.batch.songs import files
from tests.faults.conftest import TRIALS, Bench


@contextmanager
def disk(at: Path, **options: int) -> Iterator[Path]:
    """Mount a small disk, in memory."""
    at.mkdir()
    given = ",".join(f"{name}={value}" for name, value in options.items())
    words = ["mount", "-t", "tmpfs", "-o", given, "none", str(at)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("needs root, and the right to mount")
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


@pytest.mark.parametrize("format", ["wav", "flac", "m4a"])
def test_a_disk_of_any_size(bench: Bench, tmp_path: Path, format: str) -> None:
    """Songs that do not fit fail, with a line each; those that fit are done; nothing half-written is left."""
    words = ("--format", format)
    calm = bench.nursery.run(*bench.words(tmp_path / "calm", *words, songs=2))
    assert calm.code == 0, calm
    whole, codes = files(tmp_path / "calm"), set()
    for pages in (1, 2, 3, 4, 5, 7, 9, 14, 100):
        with disk(tmp_path / f"{pages}", size=pages * 4096) as out:
            run = bench.nursery.run(*bench.words(out / "out", *words, songs=2))
            TRIALS["a disk of so many pages, from one on"] += 1
            bench.check(out / "out", run, songs=2, calm=whole)
            codes.add(run.code)
    assert codes == {0, 1}


def test_a_disk_that_is_out_of_names(bench: Bench, tmp_path: Path) -> None:
    """Every file and folder takes one, and a second name of a file takes one too."""
    codes = set()
    for names in range(2, 18):
        with disk(tmp_path / f"{names}", size=2**20, nr_inodes=names) as out:
            run = bench.nursery.run(*bench.words(out / "out", songs=2))
            TRIALS["a disk for so many names, from two on"] += 1
            bench.check(out / "out", run, songs=2)
            codes.add(run.code)
    assert codes == {0, 1}


def test_a_limit_of_any_size(bench: Bench, tmp_path: Path) -> None:
    """What shells call `ulimit -f`, and file systems have of their own."""
    codes = set()
    for limit in (0, 1, 100, 300, 500, 900, 1700, 1800, 3000, 100_000):
        out = tmp_path / f"{limit}"
        run = bench.nursery.run(*bench.words(out, songs=2), RLIMIT_FSIZE=limit)
        TRIALS["a limit to the size of files"] += 1
        bench.check(out, run, songs=2)
        codes.add(run.code)
    assert codes == {0, 1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("more", [["--stems", "bass", "--out", "-"], ["--json"]])
def test_a_standard_output_that_takes_nothing(bench: Bench, tmp_path: Path, more: list[str]) -> None:
    run = bench.nursery.run(*bench.words(tmp_path / "out", *more), stdout="/dev/full")
    TRIALS["/dev/full"] += 1
    assert (run.code, len(run.said)) == (1, 1), run
    assert run.said[0].startswith("separate: "), run
    assert "standard output: " in run.said[0], run
    assert "No space left on device" in run.said[0], run


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_standard_error_that_takes_nothing(bench: Bench, tmp_path: Path) -> None:
    """What cannot be said is not worth a song."""
    words = [word for word in bench.words(tmp_path / "out") if word != "-q"]
    run = bench.nursery.run(*words, stderr="/dev/full")
    TRIALS["/dev/full"] += 1
    assert run.code == 0, run
    bench.check(tmp_path / "out", run)
