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
        ("[mixing]\nbatch = -1", "batch must be from 1 to 10000, got -1"),
        ("[mixing]\nbatch = 0x56bc75e2d63100000", "batch must be from 1 to 10000, got 100000000000000000000"),
        ("[mixing]\nturns = 0", "turns must be from 1 to"),
        ("[mixing]\nseconds = 0", r"seconds must be from 0\.1 to 3600, got 0"),
        ("[mixing]\nswap = 1.5", r"swap must be from 0 to 1, got 1\.5"),
        ("[mixing]\ngain = inf", "gain must be from 0 to 1000000000, got inf"),
        ("[mixing]\nlevel = nan", "level must be from -100 to 100, got nan"),
        ("[mixing]\nscale = [1.0]", r"scale must be two numbers, the second at least the first, got \[1\.0\]"),
        ("[mixing]\nscale = [2.0, 1.0]", "scale must be two numbers"),
        ("[mixing]\nscale = [1.0, nan]", "scale must be two numbers"),
        ('[mixing]\nscale = ["a", "b"]', "scale = .* is not of the kind"),
        ("[data]\nlicensed = [3]", r"licensed = \[3\] is not of the kind"),
        ("[data]\nclips = 0", "clips must be from 1 to"),
        ("[data]\nheld = 1.1", "held must be from 0 to 1, got"),
        ("[schedule]\nminutes = nan", "minutes must be from 0 to"),
        ("[schedule]\nvalidate = nan", "validate must be from 0 to"),
        ("[schedule]\ndecay_hours = 0", r"decay_hours must be from 0\.001 to"),
        ("[schedule]\naccumulate = 0", "accumulate must be from 1 to"),
        ("[schedule]\nseed = -1", "seed must be from 0 to 4294967295, got -1"),
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


def test_numbers_may_be_at_their_bounds(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        "[mixing]\nbatch = 1\nscale = [0, 1]\nlevel = -100\nsongs = 1\n[schedule]\nrate = 0\n"
    )
    recipe = read_recipe(tmp_path / "a.toml")
    assert (recipe.mixing.scale, recipe.mixing.level, recipe.schedule.rate) == ((0, 1), -100, 0)


@pytest.mark.parametrize("name", [*bundled_recipes(), "_plain"])
def test_what_is_bundled_is_within_bounds(name: str) -> None:
    read_recipe(name)


def test_differences_are_those_that_matter() -> None:
    old = asdict(Recipe())
    assert differences(old, asdict(Recipe())) == []
    assert differences(old, asdict(Recipe(licence="MIT", model={"bands": 3}))) == ["model.bands was 'nothing' and is 3"]
