"""Checkpoints as the package `demucs` publishes them: the same songs come out, and bad files are refused by name."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from separate.checkpoints.weights import fingerprint, load, read_header
from separate.errors import CheckpointError
from separate.separator import ArraySong, Separator
from tests.models.peers import HYBRID, TRANSFORMER, WAVES, noise, publish, theirs

pytestmark = pytest.mark.filterwarnings("default")  # the package's own are not ours

# name -> what makes it; all hear half a second at a time, or are told to by their bag
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "transformer": ("HTDemucs", TRANSFORMER | {"segment": Fraction(1, 2), "dconv_mode": 3}),
    "hybrid": ("HDemucs", HYBRID | {"hybrid_old": True}),
    "waves": ("Demucs", WAVES),
}


@cache
def package(name: str) -> Any:
    """Make one of the models above, with the very numbers that are left of them in half precision."""
    model = theirs(MODELS[name][0], seed=list(MODELS).index(name), **MODELS[name][1])
    return model.half().float()


def write_bag(folder: Path, names: list[str], text: str = "") -> Path:
    for name in names:
        publish(package(name), folder / f"{name}.safetensors", half=True)
    path = folder / "bag.yaml"
    path.write_text(f"models: {names}\n{text}", "utf-8")
    return path


BAGS: list[tuple[list[str], list[list[float]] | None, float | None]] = [
    (["transformer"], None, None),
    (["transformer"], None, 0.3),
    (["hybrid"], None, 0.5),
    (["waves", "hybrid"], [[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.5]], 0.5),
    (["hybrid", "transformer", "hybrid"], None, 0.5),
]


@pytest.mark.parametrize("length", [1000, 60000])
@pytest.mark.parametrize(("names", "weights", "segment"), BAGS)
def test_a_song_comes_out_as_it_does_from_the_package(
    names: list[str], weights: list[list[float]] | None, segment: float | None, length: int, tmp_path: Path
) -> None:
    """Chunks of half a second: in 60000 samples there are four, of which the last two are shorter."""
    from demucs.apply import BagOfModels, apply_model

    text = f"weights: {weights}\n" * bool(weights) + f"segment: {segment}\n" * bool(segment)
    before = {name: package(name).segment for name in names}
    mix = noise(length)
    try:
        bag = BagOfModels([package(name) for name in names], weights, segment)
        expected = apply_model(bag, mix, shifts=0, overlap=0.25)[0].numpy()
    finally:
        for name in names:  # which the bag has changed
            package(name).segment = before[name]
    ours = Separator(write_bag(tmp_path, names, text), device="cpu", precision="float32", batch=2)
    stems = ours.separate(ArraySong(mix[0].numpy(), 44100))
    assert list(stems) == ["drums", "bass", "other", "vocals"]
    assert expected.std() > 1e-4
    assert abs(np.stack(list(stems.values())) - expected).max() < 1e-4


def test_a_model_of_the_bag_is_a_checkpoint_too(tmp_path: Path) -> None:
    path, mix = write_bag(tmp_path, ["transformer"]).with_name("transformer.safetensors"), noise(22050)
    header = read_header(path)
    assert (header.architecture, header.sample_rate, header.licence) == ("htdemucs", 44100, "unknown")
    assert header.sources == ("drums", "bass", "other", "vocals")
    assert header.config["segment"] == 0.5
    with torch.inference_mode():
        torch.testing.assert_close(load(path)(mix), package("transformer")(mix), rtol=0, atol=1e-5)


def test_a_bag_of_other_weights_is_another_bag(tmp_path: Path) -> None:
    path = write_bag(tmp_path, ["waves", "hybrid"])
    before = fingerprint(path)
    assert fingerprint(path) == before
    publish(theirs("HDemucs", seed=9, **HYBRID), tmp_path / "hybrid.safetensors", half=True)
    other = fingerprint(path)
    path.write_text(path.read_text("utf-8") + "segment: 0.5\n", "utf-8")
    assert len({before, other, fingerprint(path)}) == 3


def test_a_model_that_is_twice_in_a_bag_is_loaded_once_and_counts_twice(tmp_path: Path) -> None:
    header = read_header(write_bag(tmp_path, ["hybrid", "waves", "hybrid"], "segment: 0.5"))
    assert [part.name for part in header.parts] == ["hybrid.safetensors", "waves.safetensors"]
    assert [model["weights"] for model in header.config["models"]] == [[2.0] * 4, [1.0] * 4]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"klass": "os.system"}, r"a model of class 'os.system': this version knows demucs.demucs.Demucs, "),
        ({"klass": "demucs.htdemucs.HTDemucs2"}, "a model of class 'demucs.htdemucs.HTDemucs2'"),
        ({"args": "[]"}, r"its arguments \[\] are not the names of stems"),
        ({"args": '["drums"]'}, r"its arguments \[\"drums\"\] are not the names of stems"),
        ({"args": '[["drums"], 1]'}, "are not the names of stems alone"),
        ({"args": "[["}, "its header is damaged or lacks"),
        ({"kwargs": "[]"}, "its header is damaged or lacks"),
        ({"kwargs": '{"cac": false}'}, "a model with cac = False, which ours does not have"),
        ({"kwargs": '{"multi_freqs": [0.5]}'}, r"a model with multi_freqs = \[0.5\]"),
        ({"kwargs": '{"hybrid": false}'}, "a model with hybrid = False"),
        ({"kwargs": '{"dconv_mode": "both"}'}, "its header is damaged or lacks"),
        ({"kwargs": '{"segment": {"_type": "fraction", "numerator": 1, "denominator": 0}}'}, "its header is damaged"),
    ],
)
def test_a_header_that_cannot_be_is_refused_by_name(changes: dict[str, str], says: str, tmp_path: Path) -> None:
    path = publish(package("hybrid"), tmp_path / "model.safetensors", changes=changes)
    with pytest.raises(CheckpointError, match=f"model.safetensors: .*{says}"):
        load(path)


def test_weights_that_do_not_fit_their_settings_are_refused_by_name(tmp_path: Path) -> None:
    settings = json.dumps(HYBRID | {"channels": 16})
    path = publish(package("hybrid"), tmp_path / "model.safetensors", changes={"kwargs": settings})
    with pytest.raises(
        CheckpointError, match=r"model.safetensors: .*encoder.0.conv.weight is \(8, 4, 8, 1\), not \(16"
    ):
        load(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: [hybrid, other]", "a bag of models of which other.safetensors is missing: it must lie beside it"),
        ("models: [../hybrid]", r"\['../hybrid'\] are no names of models"),
        ("models: []", "are no names of models"),
        ("models: [1]", "not a bag of models"),
        ("weights: []", "not a bag of models, or a damaged one: 'models'"),
        ("models: [hybrid]\nweights: [[1, 1, 1, 1], [1, 1, 1, 1]]", "2 rows of weights for 1 models"),
        ("models: [hybrid, waves]\nweights: [[1, 1], [1, 1]]", "its weights are not one for each of drums, bass"),
        ("models: [hybrid, waves]\nweights: [[1, 1, 1, x], [1, 1, 1, 1]]", "could not convert string to float: 'x'"),
        ("models: [hybrid]\nsegment: long", "could not convert string to float: 'long'"),
        ("- hybrid", "not a bag of models"),
        ("models: [hybrid", "not a bag of models"),
        ("!!python/object/apply:os.system [touch here]", "not a bag of models.*could not determine a constructor"),
        ("#" * 70000, "it is too long"),
        (f"models: [hybrid]\nsegment: 0x{'f' * 5000}", "one of its numbers is too large"),
    ],
)
def test_a_bag_that_cannot_be_is_refused_by_name(text: str, says: str, tmp_path: Path) -> None:
    path = write_bag(tmp_path, ["hybrid", "waves"])
    path.write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match=f"bag.yaml: .*{says}"):
        read_header(path)


def test_models_of_other_stems_do_not_make_a_bag(tmp_path: Path) -> None:
    path = write_bag(tmp_path, ["hybrid", "waves"])
    publish(package("waves"), tmp_path / "waves.safetensors", changes={"args": '[["voice", "a", "b", "c"]]'})
    with pytest.raises(
        CheckpointError, match=r"waves.safetensors: other stems, or another rate, than others of the bag"
    ):
        read_header(path)
