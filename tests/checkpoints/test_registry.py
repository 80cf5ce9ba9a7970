"""The registry: every row is whole, and a name that is not there gets the nearest ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from separate.checkpoints.registry import BUNDLED, VARIABLE, find, read_registry, registry
from separate.checkpoints.resolve import place_of, resolve, where
from separate.checkpoints.weights import load, read_header
from separate.errors import CheckpointError, UnknownModel
from separate.models import MODELS
from tests.conftest import Outcome


@pytest.fixture(autouse=True)
def nothing_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


def test_rows_are_what_their_checkpoints_say() -> None:
    assert "d2-gru" in registry()
    for row in registry().values():
        assert row.architecture in MODELS
        assert row.free or row.licence.startswith("LicenseRef-") or row.licence == "unknown"
        assert not row.sdr or row.measured
        assert row.path is None or row.path.parent == BUNDLED
        assert (place_of(row.name) is None) == (row.path is not None)
        if row.path is not None:
            header = read_header(row.path)
            assert (header.architecture, header.sources) == (row.architecture, row.stems)
            assert row.megabytes == round(row.path.stat().st_size / 1e6, 1)
            assert row.sdr.items() <= header.training["sdr"].items()
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
        ("a = 1", r"\[a\] must have the keys"),
        ("[a]" + ROW + "more = 1", r"\[a\] must have the keys .*, and may have sha256, megabytes, sdr, measured$"),
        ("[a]" + ROW.replace("44100", '"fast"'), r"\[a\] sample_rate must be a whole number, not 'fast'"),
        ("[a]" + ROW.replace("44100", "true"), r"\[a\] sample_rate must be a whole number, not True"),
        ("[a]" + ROW + "megabytes = true", r"\[a\] megabytes must be a number from 0 on, not True"),
        ("[a]" + ROW + "sdr = { mean = true }", r"\[a\] sdr must be a table of numbers"),
        (r'["a\nb"]' + ROW, r"\[a\\nb\]: no model can be called so"),
        ("[a]" + ROW.replace('["vocals"]', '"vocals"'), r"\[a\] stems must be a list, not 'vocals'"),
        ("[a]" + ROW.replace('["vocals"]', "[1]"), r"\[a\] stems must be a list of names"),
        ("[a]" + ROW.replace('"MIT"', "1"), r"\[a\] licence must be text"),
        ("[a]" + ROW.replace("bundled:", "http:"), r"\[a\] source must be bundled:FILE, file:PATH or hf:user/repo"),
        ("[a]" + ROW + "sdr = 9", r"\[a\] sdr must be a table"),
        ("[a]" + ROW + 'sdr = { vocals = "good" }', r"\[a\] sdr must be a table of numbers"),
        ("[a]" + ROW + "sdr = { vocals = nan }", r"\[a\] sdr must be a table of numbers"),
        ("[a]" + ROW + "megabytes = inf", r"\[a\] megabytes must be a number from 0 on, not inf"),
        ("[a]" + ROW + f"megabytes = {'9' * 400}", r"\[a\] megabytes must be a number from 0 on"),
        ("[a]" + ROW + 'sha256 = "12"', r"\[a\] sha256 must be 64 hexadecimal digits, not '12'"),
        *(
            ("[a]" + ROW.replace("bundled:x.safetensors", place), r"\[a\] source must be bundled:FILE")
            for place in ("hf:u/r@/bin/ls", "hf:u/r@", "hf:u", "hf:u/r/../x.safetensors", "hf:u/r/x.pt", "file:", "x")
        ),
        ("[a]" + ROW.replace("bundled:x", f"file:{'x' * 400}"), r"\[a\] source must be bundled:FILE"),
        *((f'["{name}"]' + ROW, "no model can be called so") for name in ("a/b", "my.yaml", "hf:x", "")),
    ],
)
def test_a_registry_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "checkpoints.toml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=said):
        read_registry(path)


def test_a_registry_that_is_right(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.toml"
    path.write_text("[a]" + ROW + "[b]" + ROW + "megabytes = 1.5\nsdr = { vocals = 8, drums = 2 }\n")
    rows = read_registry(path)
    assert list(rows) == ["a", "b"]
    assert (rows["a"].megabytes, rows["a"].mean_sdr, rows["a"].free) == (None, None, True)
    assert (rows["b"].megabytes, rows["b"].mean_sdr) == (1.5, 8.0)


def test_a_row_whose_file_is_missing_is_in_nobodys_way(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints.toml"
    path.write_text("[mine]" + ROW.replace("bundled:", "file:"))
    monkeypatch.setenv(VARIABLE, str(path))
    assert where("mine") is None
    verified = cli("models", "verify")
    assert (verified.code, "d2-gru: intact" in verified.out, verified.err) == (0, True, "")
    named = cli("models", "verify", "mine")
    assert (named.code, "correct its `source` in the registry" in named.err) == (3, True)
    assert f"Not here: {tmp_path / 'x.safetensors'} is missing." in cli("models", "show", "mine").out
    assert "not here: its file is missing" in cli("models").out


def test_a_mark_at_the_beginning_and_hashes_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.toml"
    path.write_text("[a]" + ROW + f'sha256 = "{"AB" * 32}"', "utf-8-sig")
    assert read_registry(path)["a"].sha256 == "ab" * 32


def test_rows_of_ones_own_come_on_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings, named = tmp_path / "separate/checkpoints.toml", tmp_path / "named.toml"
    settings.parent.mkdir()
    settings.write_text("[a]" + ROW + "[b]" + ROW)
    named.write_text("[b]" + ROW.replace("MIT", "unknown") + "[d2-gru]" + ROW)
    ours = registry()
    assert "a" in ours
    monkeypatch.setenv(VARIABLE, str(named))
    assert list(registry()) == list(ours)
    assert (registry()["a"].free, registry()["b"].free) == (True, False)
    assert registry()["d2-gru"].stems == ("vocals",)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no.toml"))
    with pytest.raises(CheckpointError, match=r"no\.toml: not a registry of checkpoints: .*No such file"):
        registry()


def test_a_file_of_ones_own_may_have_a_name(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "named.toml"
    named.write_text("[mine]" + ROW.replace("bundled:x.safetensors", "file:nets/mine.safetensors"))
    monkeypatch.setenv(VARIABLE, str(named))
    with pytest.raises(CheckpointError, match=r"mine: its file .*nets/mine\.safetensors is missing"):
        resolve("mine")
    (tmp_path / "nets/mine.safetensors").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"mine: its file .*nets/mine\.safetensors is a folder: correct its"):
        resolve("mine")
    (tmp_path / "nets/mine.safetensors").rmdir()
    (tmp_path / "nets/mine.safetensors").write_bytes(tiny.read_bytes())
    assert resolve("mine") == tmp_path / "nets/mine.safetensors"
