from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from separate.errors import UsageError
from separate.training.config import Recipe, bundled_recipes, differences, read_recipe


def test_a_recipe_is_its_base_and_what_differs(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('architecture = "d2-gru"\n[model]\nwidth = 64\ngroups = 4\n[schedule]\nrate = 1\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\n[model]\nwidth = 128\n[data]\nlicensed = ["mine"]\n')
    recipe = read_recipe(tmp_path / "b.toml")
    assert recipe.model == {"width": 128, "groups": 4}
    assert recipe.schedule.rate == 1
    assert recipe.data.licensed == ("mine",)


def test_bundled_recipes_are_known_by_name() -> None:
    assert "d2-gru" in bundled_recipes()
    assert read_recipe("d2-gru").architecture == "d2-gru"
    with pytest.raises(UsageError, match=r"no recipe 'd3-gru': give a \.toml file or one of .*d2-gru"):
        read_recipe("d3-gru")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[model", "not TOML"),
        ("[schedule]\nminuts = 3", r"a\.toml: \[schedule\] unknown key 'minuts'; known are accumulate, "),
        ("banana = 3", "unknown key 'banana'"),
        ("[mixing]\nbatch = 1.5", r"\[mixing\] batch = 1\.5 is not of the kind of its default, 8"),
        ("[mixing]\nbatch = true", "batch = True is not of the kind"),
        ("[mixing]\nnatural = 1", "natural = 1 is not of the kind"),
        ("[mixing]\nbatch = -1", "batch must not be negative"),
        ("mixing = 3", r"\[mixing\] is a table, got 3"),
        ('[schedule]\noptimiser = "sgd"', "optimiser must be one of adam, muon, got 'sgd'"),
        ('base = "a.toml"', "based on itself"),
        ("base = 3", "base must name a recipe"),
        ('base = "none.toml"', r"none\.toml: cannot be read: No such file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError, match=complaint):
        read_recipe(tmp_path / "a.toml")


def test_differences_are_those_that_matter() -> None:
    old = asdict(Recipe())
    assert differences(old, asdict(Recipe())) == []
    assert differences(old, asdict(Recipe(licence="MIT", model={"bands": 3}))) == ["model.bands was 'nothing' and is 3"]
