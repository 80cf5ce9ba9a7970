"""What the documents say is true: help pages, examples, links, versions. And the clip is what its script composes."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import separate
from tests.conftest import Outcome, music
from tests.data import make_clip

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def words(page: str) -> Counter[str]:
    """Count the words and long options: they are ours, how they are laid out differs between versions of Typer."""
    marks = {"bool", "str", "int", "float", "list", "TEXT", "INTEGER", "FLOAT", "RANGE", "BOOLEAN"}
    return Counter(word for word in re.findall(r"--[a-z-]+|[A-Za-z']{2,}", page) if word not in marks)


HELP_PAGES: dict[str, str] = GENERATE["pages"]((ROOT / "docs" / "usage.md").read_text("utf-8"))


def test_there_is_a_help_page_for_every_command() -> None:
    commands = ["convert", "evaluate", "publish", "train", "models", "watch", "player"]
    commands += [f"models {name}" for name in ("pull", "remove", "show", "verify")]
    assert set(HELP_PAGES) == {"--help", *(f"{command} --help" for command in commands)}


@pytest.mark.parametrize("arguments", HELP_PAGES)
def test_help_pages_are_those_of_today(arguments: str) -> None:
    there = words(HELP_PAGES[arguments].removeprefix("```text\n").removesuffix("```\n"))
    assert there == words(GENERATE["help_page"](arguments)), "run: python docs/generate.py"


def anchors(path: Path) -> set[str]:
    """Return what a document's headings are called in links."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.is_file(), f"{name_of(path)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{name_of(path)} links to {link}"


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert not [name_of(path) for path in DOCUMENTS[1:] if f"({name_of(path)})" not in readme]


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    newest = re.search(r"^## (\S+) \(.+\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert project["version"] == separate.__version__ == newest[1]


def test_readme_begins_with_the_two_commands_that_ci_runs() -> None:
    first, second = (block.splitlines() for block in code_blocks(ROOT / "README.md", "sh")[:2])
    venv = "python3 -m venv .venv && .venv/bin/pip install"
    assert first == [f"{venv} . && .venv/bin/separate tests/data/clip.flac"]
    assert second == [f"{venv} '.[test]' && .venv/bin/pytest"]
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert second[0] in [line.strip() for line in script.splitlines()]


def test_ci_is_a_script_that_bash_understands() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def commands() -> Iterator[str]:
    """Yield every command line of `separate` in the documents."""
    for path in DOCUMENTS:
        for block in code_blocks(path, "sh"):
            lines = (line.partition("#")[0].strip() for line in block.splitlines())
            # Those of `separate evaluate` are in tests/cli/test_evaluate.py, which has the data sets.
            yield from (line for line in lines if re.match(r"separate (?!evaluate)|cat .*\| separate ", line))


COMMANDS = sorted(set(commands()))


@pytest.fixture
def playground(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the examples think they are in."""
    (tmp_path / "album" / "cd1").mkdir(parents=True)
    for name, seconds in (("song.wav", 4.0), ("song.mp3", 2.0), ("album/one.wav", 1.0), ("album/cd1/intro.mp3", 1.0)):
        soundfile.write(tmp_path / name, music(seconds, 44100).T, 44100)
    # Long enough for the example with --start; mono and slow, because time is all that counts there.
    soundfile.write(tmp_path / "song.flac", music(31, 8000, channels=1).T, 8000)
    shutil.copy(tiny, tmp_path / "my.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", [line for line in COMMANDS if "|" not in line])
def test_examples_run(command: str, playground: Path, cli: Callable[..., Outcome]) -> None:
    # The model with the name is exchanged for a tiny one: what it does is the same, but for how long and how well.
    arguments = ["./my.safetensors" if word == "d2-gru" else word for word in shlex.split(command)[1:]]
    own = [] if arguments[0] == "models" else ["--model", "my.safetensors", "--quiet"]
    before = set(playground.rglob("*.*"))
    outcome = cli(*arguments, *own)
    assert outcome.code == 0, outcome.err
    assert outcome.out if arguments[0] == "models" else set(playground.rglob("[!.]*.*")) - before


def test_the_example_with_pipes_runs(playground: Path) -> None:
    (command,) = (line for line in COMMANDS if "|" in line)
    run = f"{shlex.quote(sys.executable)} -m separate --model my.safetensors --quiet"
    shell = command.replace("separate", f"PYTHONPATH={shlex.quote(str(ROOT))} {run}")
    done = subprocess.run(["sh", "-c", shell], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert soundfile.info(playground / "vocals.wav").frames == 4 * 44100


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=name_of)
def test_python_examples_run(path: Path, playground: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for written in code_blocks(path, "python"):
        block = re.sub(r'(Separator\(|"song.wav", )"d2-gru"', r'\1"my.safetensors"', written)
        exec(compile(block, name_of(path), "exec"), names)
        printed = capsys.readouterr().out
        for comment in re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE):
            assert comment in printed
    assert (playground / "karaoke.wav").exists() == (path.name == "python.md")


def test_the_clip_is_what_its_script_composes() -> None:
    samples, rate = soundfile.read(ROOT / "tests" / "data" / "clip.flac")
    stems = make_clip.compose()
    assert rate == make_clip.RATE
    # One step of 16 bits: libraries of mathematics do not agree on the last bit.
    assert np.abs(samples.T - sum(stems.values())).max() < 1.01 / 2**15
    assert all(np.sqrt(np.mean(stem**2)) > 0.02 for stem in stems.values())
