"""The frame of the command line: help, version, completion, and messages that stay on their line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from separate import __version__
from separate.cli.text import one_line
from tests.conftest import Outcome

Cli = Callable[..., Outcome]


@pytest.mark.parametrize("arguments", [["--help"], [], ["song.wav", "--help"]])
def test_help_has_the_groups_and_the_exit_codes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    done = cli(*arguments)
    for word in (
        "Usage: separate INPUT... [OPTIONS]",
        "Model",
        "Speed and quality",
        "--griffin-lim",
        "130 interrupted",
    ):
        assert word in done.out + done.err


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"separate {__version__}\n"


def completed(words: str) -> list[str]:
    env = {**os.environ, "_SEPARATE_COMPLETE": "complete_bash", "COMP_WORDS": words}
    env["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    code = "import sys; sys.argv = ['separate']; from separate.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_completion() -> None:
    assert completed("separate --mod") == ["--model"]
    assert completed("separate mod") == ["models"]
    assert completed("separate song.wav --model d2") == ["d2-gru", "d2-gru-research"]
    assert completed("separate song.wav --format o") == ["ogg", "opus"]
    assert completed("separate models sh") == ["show"]


def test_models(cli: Cli) -> None:
    done = cli("models")
    assert done.code == 0
    assert "d2-gru" in done.out
    rows = json.loads(cli("models", "--json").out)
    assert rows[0]["name"] == "d2-gru"
    assert rows[0]["stems"] == ["vocals", "drums", "bass", "other"]


def test_models_show(cli: Cli, tiny: Path) -> None:
    shown = json.loads(cli("models", "show", tiny, "--json").out)
    assert shown["architecture"] == "d2-gru"
    assert shown["config"]["bands"] == 32
    text = cli("models", "show", tiny).out
    assert "licence: MIT" in text
    assert "    bands: 32" in text
    unknown = cli("models", "show", "d2-gro")
    assert unknown.code == 3
    assert "did you mean d2-gru" in unknown.err


@pytest.mark.parametrize(
    ("text", "shown"), [("a\nb", "a\\nb"), ("é🎵", "é🎵"), ("\x1b[31m", "\\x1b[31m"), ("\udcff", "\\udcff")]
)
def test_one_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["--no-such-option"], 2)])
def test_a_process_that_is_not_taken_apart_says_all_it_had_to_say(arguments: list[str], code: int) -> None:
    script = "import atexit; atexit.register(print, 'the last words'); from separate.cli import process; process()"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout == (f"separate {__version__}\n" if not code else "") + "the last words\n"
    assert bool(done.stderr) == bool(code)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_process_whose_output_is_lost_does_not_say_that_all_is_well() -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "separate", "--version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode
    assert "No space left on device" in done.stderr
