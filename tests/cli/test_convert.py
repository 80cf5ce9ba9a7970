"""`separate convert`: what users type, and what they get when it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch

from separate.checkpoints.convert import FORMATS
from separate.checkpoints.weights import load, read_header
from separate.cli.convert import Architecture
from separate.models.demucs import Demucs, DemucsConfig
from tests.checkpoints.test_convert import saved, umx
from tests.conftest import Outcome
from tests.data import make_spleeter

Cli = Callable[..., Outcome]


@pytest.fixture
def demucs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Demucs of 2 channels as version 2 stored it; everything happens beside it."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(Demucs(DemucsConfig(channels=2)).state_dict(), "demucs.th")
    return Path("demucs.th")


def test_what_is_converted_separates(cli: Cli, demucs: Path, song: Path) -> None:
    done = cli("convert", demucs, "mine.safetensors", "--licence", "MIT")
    assert (done.code, done.err) == (0, "")
    assert done.out == "mine.safetensors: demucs, drums, bass, other, vocals, 1.1 MB\n"
    assert read_header("mine.safetensors").licence == "MIT"
    assert cli(song, "--model", "./mine.safetensors", "--out", "out").code == 0
    assert soundfile.info("out/mine/song/vocals.wav").frames == soundfile.info(song).frames


def test_stems_can_be_named(cli: Cli, demucs: Path) -> None:
    assert cli("convert", demucs, "mine.safetensors", "--sources", "a, b,c,d", "--from", "demucs").code == 0
    assert load("mine.safetensors").sources == ("a", "b", "c", "d")


def test_a_folder_of_tensorflow_is_one_file(cli: Cli, demucs: Path) -> None:
    done = cli("convert", make_spleeter.FOLDER, "mine.safetensors")
    assert done.out.startswith("mine.safetensors: spleeter, vocals, accompaniment, ")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["demucs.th"], 2, "demucs.th: there must be two names at least"),
        ([], 2, "Missing argument 'SRC... DEST'"),
        (["demucs.th", "mine.th"], 2, "mine.th: the last name is that of the file to write"),
        (["demucs.th", "mine.safetensors", "--from", "tape"], 2, "'tape' is not one of 'open-unmix', 'demucs'"),
        (["demucs.th", "mine.safetensors", "--sources", "a,,b"], 2, "--sources 'a,,b': name every stem once"),
        (["demucs.th", "mine.safetensors", "--sources", "a,b"], 2, "these weights separate 4 stems, not a, b"),
        (["demucs.th", "mine.safetensors", "--sources", "a,b,c,a"], 2, "name every stem once"),
        (["demucs.th", "there.safetensors"], 1, "there.safetensors: exists already; choose another name"),
        (["demucs.th", "no/mine.safetensors"], 1, "no/mine.safetensors: cannot be written: no such folder"),
        (["none.th", "mine.safetensors"], 3, "none.th: cannot be read: No such file or directory"),
        (["text.th", "mine.safetensors"], 3, "text.th: not a file of weights that torch saved"),
        (["demucs.th", "mine.safetensors", "--from", "mad"], 3, "these are weights of demucs, not of mad"),
        (["demucs.th", "demucs.th", "mine.safetensors"], 3, "demucs.th, demucs.th: its weights are in one file"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_left(
    cli: Cli, demucs: Path, arguments: list[str], code: int, complaint: str
) -> None:
    Path("there.safetensors").write_text("mine")
    Path("text.th").write_text("hello")
    done = cli("convert", *arguments)
    assert done.code == code, done.err
    assert done.out == ""
    [line] = done.err.splitlines()
    assert complaint in line
    assert sorted(path.name for path in Path().iterdir()) == ["demucs.th", "text.th", "there.safetensors"]
    assert Path("there.safetensors").read_text() == "mine"


def test_force_overwrites(cli: Cli, demucs: Path) -> None:
    Path("there.safetensors").write_text("mine")
    assert cli("convert", demucs, "there.safetensors", "--force").code == 0
    assert read_header("there.safetensors").architecture == "demucs"


@pytest.mark.parametrize("name", ["mixture", "a/b", "..", "a\\b", "x" * 300, "two\nlines", "drums"])
def test_a_stem_of_a_name_that_none_may_have_leaves_what_was_there(cli: Cli, demucs: Path, name: str) -> None:
    for seed, path in enumerate(("vocals.pth", "drums.pth")):
        saved(umx(seed).state_dict(), Path(path))
    for sources, *files in ((f"{name},drums", "vocals.pth", "drums.pth"), (f"{name},a,b,drums", demucs)):
        Path("good.safetensors").write_text("good")
        before = sorted(Path().iterdir())
        done = cli("convert", *files, "good.safetensors", "--force", "--sources", sources)
        assert (done.code, done.out) == (2 if name == "drums" else 3, "")
        [line] = done.err.splitlines()
        assert repr(name) in line or sources in line
        assert Path("good.safetensors").read_text() == "good"
        assert sorted(Path().iterdir()) == before


def test_architectures_are_those_that_can_be_converted() -> None:
    assert {name.value for name in Architecture} == FORMATS.keys()
