"""A few damaged files of every kind, and all that ever went wrong: nothing but a SeparateError comes out.

`python -m benchmarks.fuzz` does the same with a hundred thousand.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from separate.errors import SeparateError
from tests.fuzz.mutations import KINDS, VALUES, Edit, mutated
from tests.fuzz.target import Seeds
from tests.fuzz.targets import TARGETS

CASES = Path(__file__).parent / "cases"
FOUND = sorted(path.relative_to(CASES).as_posix() for path in CASES.glob("*/*"))


@cache
def seeds(target: str) -> Seeds:
    return TARGETS[target].seeds()


def outcome(target: str, path: Path) -> str:
    """Read a file and return what was said of it, nothing if it could be read."""
    try:
        TARGETS[target].read(path)
    except SeparateError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_whole_is_read(target: str, tmp_path: Path) -> None:
    for name, seed in seeds(target).items():
        path = tmp_path / name
        path.write_bytes(seed.wrap(seed.body))
        said = outcome(target, path)
        assert not said or name in EXPECTED, said


# Whole, and yet to be refused.
EXPECTED = {"roformer.safetensors", "bomb.yaml", "merges.yaml"}


@pytest.mark.filterwarnings("default")  # of the libraries below, about files that they then read
@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_damaged_is_read_or_refused(target: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(seeds(target))))
    seed = seeds(target)[name]
    values = st.sampled_from(VALUES + TARGETS[target].tokens) | st.binary(min_size=1, max_size=8)
    places = st.floats(0, 1, exclude_max=True)
    lengths = st.sampled_from((1, 2, 4, 16, 100, 1000))
    edits = st.lists(st.builds(Edit, st.sampled_from(KINDS), places, lengths, values), min_size=1, max_size=4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(seed.wrap(mutated(seed.body, data.draw(edits))))
        outcome(target, path)


# Though strange: titles that are not UTF-8, and a journal's lines that make no sense.
READ = {"song/latin-1.m4a", "song/latin-1.mp3", "journal/outside.jsonl"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", FOUND)
def test_what_went_wrong_once(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target, _, name = case.partition("/")
    path = tmp_path / name
    path.write_bytes((CASES / case).read_bytes())
    assert (outcome(target, path) == "") == (case in READ)
    assert capfd.readouterr() == ("", "")
