"""Bags: weighted means of what models say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from separate.checkpoints.weights import load, save
from separate.errors import CheckpointError
from separate.models import build
from separate.models.bag import PRESETS, Bag
from tests.models.peers import noise

WAVES: dict[str, Any] = {"channels": 8, "depth": 2, "dconv": "none"}
HYBRID: dict[str, Any] = {"channels": 8, "depth": 3, "n_fft": 256, "dconv": "none"}
CONFIG: dict[str, Any] = {
    "sources": ["voice", "rest"],
    "segment": 0.5,
    "models": [
        {"architecture": "wdemucs", "config": WAVES, "weights": [1.0, 0.5]},
        {"architecture": "hdemucs", "config": HYBRID, "weights": [0.0, 1.5]},
    ],
}


def bag(**changes: Any) -> Bag:
    torch.manual_seed(0)
    made: Bag = build("bag", CONFIG | changes).eval()
    return made


def test_stems_are_weighted_means() -> None:
    model, mix = bag(), noise(9000)
    with torch.inference_mode():
        stems, waves, hybrid = model(mix), *(part(mix) for part in model.models)
    torch.testing.assert_close(stems[:, 0], waves[:, 0])
    torch.testing.assert_close(stems[:, 1], waves[:, 1] / 4 + hybrid[:, 1] * 3 / 4)


def test_every_model_hears_as_much_around_a_chunk_as_it_likes() -> None:
    model, mix = bag(), noise(9000)
    waves, hybrid = model.models
    reach: Any = waves.around
    assert reach > 0
    assert model.around == reach
    assert hybrid.around == 0
    with torch.inference_mode():
        stems = model(mix, reach)
        expected = waves(mix, reach)[:, 1] / 4 + hybrid(mix[..., reach:-reach])[:, 1] * 3 / 4
    torch.testing.assert_close(stems[:, 1], expected)


def test_a_bag_of_models_that_do_not_hear_around_does_not_either() -> None:
    small = {"n_fft": 512, "hop": 128, "width": 16, "groups": 4, "bands": 32, "output": "mask"}
    parts = [{"architecture": "d2-gru", "config": small}] * 2
    model = bag(models=parts, segment=2.0, context=0.25)
    assert (model.around, model.grid, model.context) == (None, 128, 0.25)
    with torch.inference_mode():
        assert model(noise(9000)).shape == (1, 2, 2, 9000)


def test_chunks_overlap_as_the_most_careful_model_likes() -> None:
    assert bag().overlap == 0.25
    mixed = [{"architecture": "open-unmix", "config": {"hidden": 8, "layers": 1, "bins": 64}}, CONFIG["models"][0]]
    assert bag(models=mixed).overlap == 0.25
    assert bag(models=mixed[:1], segment=2.0).overlap == 0.1


def test_a_checkpoint_holds_all_of_a_bag(tmp_path: Path) -> None:
    model, mix = bag(), noise(5000)
    save(tmp_path / "bag.safetensors", model, architecture="bag", licence="MIT", training={})
    again = load(tmp_path / "bag.safetensors")
    with torch.inference_mode():
        assert torch.equal(again(mix), model(mix))


def test_the_published_bags_have_their_sizes() -> None:
    sizes = {}
    for name, changes in PRESETS.items():
        with torch.device("meta"):
            sizes[name] = [sum(p.numel() for p in part.parameters()) for part in build("bag", changes).models]
    hybrid, waves, transformer = 83_637_832, 133_753_064, 41_984_456
    assert sizes == {"htdemucs_ft": [transformer] * 4, "mdx": [waves] * 2 + [hybrid] * 2, "mdx_extra": [hybrid] * 4}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": []}, "sources and models"),
        ({"sources": []}, "sources and models"),
        ({"sample_rate": 0}, "sample_rate must be at least 1, got 0"),
        ({"context": 1.0}, "context of 1.0 s .* of 0.5 s"),
        ({"models": [{"architecture": "d3-gru"}]}, r"models\[0\]: architecture = 'd3-gru'"),
        ({"models": [{"architecture": "bag"}]}, r"models\[0\]: architecture = 'bag'"),
        ({"models": [{"architecture": ["bag"]}]}, r"models\[0\]: architecture = \['bag'\]"),
        ({"models": [{}]}, r"models\[0\]: architecture = None"),
        ({"models": [{"architecture": "hdemucs", "wieghts": []}]}, r"models\[0\] has no setting 'wieghts'"),
        ({"models": [{"architecture": "hdemucs", "config": 3}]}, r"models\[0\]: config = 3"),
        ({"models": [{"architecture": "hdemucs", "config": {"widht": 3}}]}, "hdemucs has no setting 'widht'"),
        ({"models": [{"architecture": "hdemucs", "weights": [1]}]}, r"models\[0\]: weights = \[1\]"),
        ({"models": [{"architecture": "hdemucs", "weights": [1, "2"]}]}, r"models\[0\]: weights = \[1, '2'\]"),
        ({"models": [{"architecture": "hdemucs", "weights": [1, -1]}]}, r"models\[0\]: weights = \[1, -1\]"),
        ({"models": [{"architecture": "hdemucs", "weights": [1, 0]}]}, r"rest weights of \[0\]"),
    ],
)
def test_settings_that_make_no_bag_are_refused_by_name_and_value(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        bag(**changes)
