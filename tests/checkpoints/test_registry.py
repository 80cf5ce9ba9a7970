"""The registry: every row is whole, and a name that is not there gets the nearest ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from separate.checkpoints.registry import BUNDLED, find, read_registry, registry
from separate.checkpoints.resolve import resolve
from separate.checkpoints.weights import load, read_header
from separate.errors import CheckpointError, UnknownModel
from separate.models import MODELS


def test_rows_are_what_their_checkpoints_say() -> None:
    assert "d2-gru" in registry()
    for row in registry().values():
        assert row.architecture in MODELS
        assert row.path is None or row.path.parent == BUNDLED
        if row.path is not None:
            header = read_header(row.path)
            assert (header.architecture, header.sources) == (row.architecture, row.stems)
            assert (header.sample_rate, header.licence) == (row.sample_rate, row.licence)
            assert row.path.with_suffix(".md").is_file(), "a model card beside it"
            assert load(resolve(row.name)).sources == row.stems


@pytest.mark.parametrize("name", ["d2gru", "D2-GRU", "d2-gur"])
def test_the_nearest_name_is_suggested(name: str) -> None:
    with pytest.raises(UnknownModel, match="did you mean d2-gru"):
        find(name)


def test_without_a_near_name_all_are_listed() -> None:
    with pytest.raises(UnknownModel, match="unknown model 'qqqqq': there are d2-gru"):
        resolve("qqqqq")


def test_a_path_is_a_file(tiny: Path, tmp_path: Path) -> None:
    assert resolve(tiny) == tiny
    for missing in ("no.safetensors", f"{tmp_path}/nothing", "./d2-gru"):
        with pytest.raises(CheckpointError, match="no such checkpoint file"):
            resolve(missing)


ROW = """
architecture = "d2-gru"
source = "bundled:x.safetensors"
stems = ["vocals"]
sample_rate = 44100
licence = "MIT"
summary = "x"
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a", "not a registry"),
        ("a = 1", r"\[a\] must have exactly the keys"),
        ("[a]" + ROW + "more = 1", r"\[a\] must have exactly the keys"),
        ("[a]" + ROW.replace("44100", '"fast"'), r"\[a\] sample_rate must be a int"),
        ("[a]" + ROW.replace('["vocals"]', '"vocals"'), r"\[a\] stems must be a list"),
    ],
)
def test_a_registry_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "checkpoints.toml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=said):
        read_registry(path)


def test_a_registry_that_is_right(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.toml"
    path.write_text("[a]" + ROW + "[b]" + ROW)
    assert list(read_registry(path)) == ["a", "b"]
