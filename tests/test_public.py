"""The public surface: what `separate` offers, and the tree of its errors."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import separate
from separate import errors

NAMES = [
    "ArraySong",
    "AudioReader",
    "CheckpointError",
    "DependencyError",
    "DeviceMemoryError",
    "DeviceUnavailable",
    "InputError",
    "OutputError",
    "OutputExists",
    "SeparateError",
    "Separator",
    "Stems",
    "UnknownModel",
    "UnknownStem",
    "UsageError",
    "__version__",
    "separate",
]


def test_the_public_names_are_these() -> None:
    assert sorted(separate.__all__) == NAMES
    assert sorted(dir(separate)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_described(name: str) -> None:
    value = getattr(separate, name)
    if callable(value):
        assert len(inspect.getdoc(value) or "") > 10


@pytest.mark.parametrize("name", ["ArraySong", "AudioReader", "Separator"])
def test_every_method_is_described(name: str) -> None:
    methods = inspect.getmembers(getattr(separate, name), inspect.isfunction)
    public = [method for method_name, method in methods if not method_name.startswith("_")]
    assert public
    assert all(method.__doc__ for method in public)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'sepparate'"):
        separate.sepparate  # noqa: B018


def test_type_checkers_see_the_same_names_in_the_same_places() -> None:
    tree = ast.parse(Path(separate.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname
    }
    assert seen == separate._HOMES


def drawn_tree() -> dict[str, tuple[str | None, int]]:
    """Read the drawing on top of errors.py: class -> (parent, exit code)."""
    tree: dict[str, tuple[str | None, int]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+) {2,}(?:(\d+) |exit code)", line)
        if found:
            path[len(found[1]) // 4 :] = [found[2]]
            tree[found[2]] = (path[-2] if len(path) > 1 else None, int(found[3] or 1))
    return tree


def test_the_drawing_of_the_errors_is_right() -> None:
    classes = {name: getattr(errors, name) for name in errors.__all__}
    real = {
        name: (None if name == "SeparateError" else kind.__base__.__name__, kind.exit_code)
        for name, kind in classes.items()
    }
    assert drawn_tree() == real


def test_every_error_is_public_and_described() -> None:
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert defined == set(errors.__all__)
    assert defined <= set(separate.__all__)
    assert all(getattr(errors, name).__doc__ for name in defined)
