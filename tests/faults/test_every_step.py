"""Every operation on a file, the one after the other, fails or is the last one that a run does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import TRIALS, Bench


def steps(bench: Bench, out: Path) -> Iterator[int]:
    """Count what a run does with files, all of it in the output folder, and yield the number of each operation."""
    run = bench.nursery.run(*bench.words(out), below=out)
    assert run.code == 0, run
    assert len(run.operations) > 20, run
    for at in range(1, 1 + len(run.operations)):
        shutil.rmtree(out, ignore_errors=True)
        yield at


def test_an_operation_that_fails(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for at in steps(bench, out):
        run = bench.nursery.run(*bench.words(out), below=out, at=at, error="EIO")
        TRIALS["an operation on a file in the output folder fails, each in turn"] += 1
        bench.check(out, run, parts=run.operations[at - 1].startswith("os.remove"))


@pytest.mark.parametrize(("signal", "code"), [("SIGKILL", -9), ("SIGINT", 130)])
def test_the_last_operation(bench: Bench, tmp_path: Path, signal: str, code: int) -> None:
    out = tmp_path / "out"
    for at in steps(bench, out):
        run = bench.nursery.run(*bench.words(out), below=out, at=at, signal=signal)
        TRIALS[f"{signal} before an operation on a file, each in turn"] += 1
        assert run.code == code, run
        bench.check(out, run, parts=signal == "SIGKILL", halves=signal == "SIGKILL")
        if signal == "SIGKILL" or at % 3 == 0:
            bench.check_resumed(out)
