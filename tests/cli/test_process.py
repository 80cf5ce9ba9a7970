"""What the command sets for its whole process."""

from __future__ import annotations

import gc
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from unittest.mock import Mock

import pytest

from separate.cli.process import LOOK, SETTLED, Tidy, beside, importing, interruptible
from separate.errors import OutputError

FAULTS = """
import resource, sys
if sys.argv[1] == "tuned":
    from separate.cli.process import tune
    tune()
import numpy
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
numpy.ones(20_000_000 // 8)
before = faults()
for _ in range(20):
    numpy.ones(20_000_000 // 8)
print(faults() - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    assert faults("tuned") * 10 < max(faults("plain"), 50)


def test_garbage_is_looked_for_again_after_imports_even_those_that_fail() -> None:
    with suppress(ImportError), importing():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()


def test_what_is_more_than_at_first_is_handed_back(tmp_path: Path) -> None:
    statm, trimmed = tmp_path / "statm", list[int]()
    tidy = Tidy(trimmed.append, statm)

    def blocks(count: int, pages: int, song: Iterator[int]) -> None:
        statm.write_text(f"9000 {pages} 7 1 0 5 0\n", encoding="ascii")
        for done in islice(song, count):
            tidy(done)

    song = itertools.count(1)
    blocks(SETTLED, 1000, song)
    blocks(10 * LOOK, 1010, song)
    assert not trimmed
    blocks(LOOK, 1011, song)
    assert trimmed == [0]
    another = itertools.count(1)  # which needs more
    blocks(SETTLED, 2000, another)
    blocks(10 * LOOK, 2000, another)
    assert trimmed == [0]
    statm.unlink()
    for done in islice(another, 2 * LOOK):
        tidy(done)
    assert trimmed == [0]


@pytest.mark.parametrize(("words", "shown"), [((), False), (("-W", "default"), True)])
def test_what_libraries_warn_of_is_shown_to_who_asks(words: tuple[str, ...], shown: bool) -> None:
    code = "import warnings; from separate.cli.process import hush; hush(); warnings.warn('matmul failed')"
    done = subprocess.run([sys.executable, *words, "-c", code], capture_output=True, text=True, check=True)
    assert ("matmul failed" in done.stderr) == shown
    assert shown or not done.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_ends_a_run(name: str) -> None:
    number = getattr(signal, name)
    outside = signal.signal(number, signal.default_int_handler)  # who runs the tests may have it ignored, as nohup does
    try:
        with interruptible() as check:
            check()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
            with pytest.raises(KeyboardInterrupt):  # again: a codec may have swallowed it
                check()
        assert signal.getsignal(number) == signal.default_int_handler
    finally:
        signal.signal(number, outside)


def test_what_a_shell_told_us_to_ignore() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interruptible() as check:
            signal.raise_signal(signal.SIGHUP)
            check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_work_beside_is_done_once_and_waited_for() -> None:
    begun = threading.Event()
    done = []

    def work() -> int:
        begun.set()
        time.sleep(0.05)
        done.append(1)
        return 7

    result = beside(work)
    assert begun.wait(10)
    assert result() == result() == 7
    assert done == [1]


def test_work_that_no_thread_did_is_done_by_who_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for start in (lambda *args: None, Mock(side_effect=RuntimeError("can't start new thread"))):
        monkeypatch.setattr("_thread.start_new_thread", start)
        result = beside(lambda: "done")
        assert result() == "done"


def test_an_error_of_work_beside_comes_out_where_its_result_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise OutputError("no room")

    result = beside(fail)
    with pytest.raises(OutputError, match="no room"):
        result()
    assert capsys.readouterr().err == ""
