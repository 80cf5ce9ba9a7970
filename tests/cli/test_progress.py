"""What is seen while songs are separated: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from separate.batch.job import Job, Result
from separate.cli.progress import Reporter
from separate.errors import InputError

JOBS = [Job(f"{name}.wav", {"vocals": Path("out", name, "vocals.wav")}, seconds=30.0) for name in "ab"]


class Terminal:
    """A terminal that standard error is, and what was written on it."""

    def __init__(self) -> None:
        self.ours, theirs = pty.openpty()
        self.file = open(theirs, "w")  # noqa: SIM115 (closed in text)
        self.parts: list[bytes] = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        try:
            while part := os.read(self.ours, 65536):
                self.parts.append(part)
        except OSError:  # how Linux says that the other end is closed
            pass

    def text(self) -> str:
        """Close it, and return all that was on it."""
        if not self.file.closed:
            self.file.close()
            self.thread.join()
            os.close(self.ours)
        return b"".join(self.parts).decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    yield terminal
    terminal.text()


def separate_both(reporter: Reporter) -> None:
    with reporter:
        reporter.checked(2)
        reporter.begin(JOBS)
        for job in JOBS:
            progress = reporter.song(job)
            progress(500, 1000)
            if reporter.bar:
                reporter.bar.refresh()
            reporter.result(Result(job, "done", audio_seconds=30.0, seconds=2.0))
        reporter.summary()


def test_bars_on_a_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.file)
    separate_both(Reporter(quiet=False, json=False, songs=2))
    text = terminal.text()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"0 of 2 songs +━+.* 25% +\d+\.\d x", plain)
    assert re.search(r"b\.wav +━+.* 50% +\d+\.\d x", plain)
    assert "a.wav: done in 2.0 s, 15.0 x real time; 1 of 2, 0:00:0" in plain
    assert re.search(r"done +2  0:01:00 of music in 0:00:0\d, \d+\.\d x real time", plain)
    assert "\x1b[38;5;" in text or "\x1b[3" in text  # in colour


def test_no_color(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.file)
    monkeypatch.setenv("NO_COLOR", "1")
    separate_both(Reporter(quiet=False, json=False, songs=2))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][;m]", terminal.text())


def test_quiet_means_nothing_but_failures(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.file)
    reporter = Reporter(quiet=True, json=False, songs=2)
    separate_both(reporter)
    reporter.result(Result(replace(JOBS[0], error=InputError("a.wav: no")), "failed", InputError("a.wav: no")))
    assert reporter.failed
    assert terminal.text() == "separate: a.wav: no\r\n"


def test_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=False, json=False, songs=2)
    separate_both(reporter)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0].startswith("a.wav: done in 2.0 s, 15.0 x real time; 1 of 2, 0:00:0")
    assert "\x1b" not in said.err


def test_the_summary_repeats_the_first_failures(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=False, json=False, songs=30)
    reporter.begin([])
    for number in range(30):
        reporter.result(Result(JOBS[0], "failed", InputError(f"{number}.wav: is empty")))
    capsys.readouterr()
    reporter.summary()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == ["done          0", "skipped       0", "failed       30", "    0.wav: is empty"]
    assert lines[-1] == "    and 10 more: the journal names them"
