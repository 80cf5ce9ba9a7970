"""Quantised weights are what their authors' program restores, and what is wrong with a file is said by name."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from separate.checkpoints.quantized import QUANTIZER, numbers
from separate.checkpoints.weights import load, read_header
from separate.errors import CheckpointError
from separate.separator import ArraySong, Separator
from tests.models.peers import HYBRID, TRANSFORMER, WAVES, noise, publish, theirs

pytestmark = pytest.mark.filterwarnings("default")  # the packages' own are not ours

GROUP = 8
SETTINGS = {"min_size": 0.01, "group_size": GROUP}
State = dict[str, Any]


def packed(levels: NDArray[np.int64], depth: int) -> Tensor:
    """Pack numbers bit by bit, as slowly as the format is told."""
    words = [[[0] * 32 for _ in range(depth)] for _ in range(-(-len(levels) // 2048))]
    for i, level in enumerate(levels.tolist()):
        line, k, j = i // 2048, i % 2048 // 32, i % 32
        for b in range(depth):
            words[line][b][j] |= (level >> b & 1) << k
    return torch.from_numpy(np.array(words, np.uint64).reshape(len(words), depth, 32).view(np.int64))


def by_hand(model: Any) -> State:
    """Quantise a model in place, and say what a file of it holds."""
    draw = np.random.default_rng(0)
    quantized, others = [], []
    for weight in model.parameters():
        if weight.numel() <= 0.01 * 2**20 // 4:
            others.append(weight.data)
            continue
        values = weight.data.double().numpy().reshape(-1, GROUP)
        low, high = values.min(), values.max()
        depth = draw.integers(2, 15, len(values))
        level = ((values - low) / (high - low) * (2.0**depth - 1)[:, None]).round().astype(np.int64)
        restored = low + (high - low) * level / (2.0**depth - 1)[:, None]
        weight.data = torch.from_numpy(restored).float().view(weight.shape)
        rows = [level[depth == n].ravel() for n in range(1, 15)]
        levels = [packed(row, n) if len(row) else None for n, row in enumerate(rows, 1)]
        quantized.append((levels, (float(low), float(high)), packed(depth - 2, 4)))
    meta = {"init_kwargs": SETTINGS, "klass": QUANTIZER, "packed": True}
    return {"quantized": quantized, "float16": [], "others": others, "meta": meta, "__quantized": True}


def by_diffq(model: Any, **more: Any) -> State:
    """Quantise a model in place by the program of its authors."""
    diffq = pytest.importorskip("diffq")
    quantizer = diffq.DiffQuantizer(model, **SETTINGS | more)
    for name, bits in model.named_parameters():
        if name.endswith("_diffq"):  # from 2 bits to 14, the most that it keeps
            bits.data = (3 * torch.randn(bits.shape, generator=torch.Generator().manual_seed(0))).clamp(max=2.8)
    state: State = quantizer.get_quantized_state()
    quantizer.detach()
    diffq.restore_quantized_state(model, state)
    return state | {"__quantized": True}


def in_halves(model: Any) -> State:
    return by_diffq(model, float16=True)


def folded(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Say in JSON what shape an object has, and put its tensors aside."""
    if isinstance(value, Tensor):
        tensors[path] = value.clone().contiguous()
        return {"_tensor": path}
    if isinstance(value, dict):
        return {"_dict": [[key, folded(inside, f"{path}.{key}", tensors)] for key, inside in value.items()]}
    if isinstance(value, list | tuple):
        return {f"_{type(value).__name__}": [folded(v, f"{path}.{i}", tensors) for i, v in enumerate(value)]}
    return {"_class": f"{value.__module__}.{value.__qualname__}"} if isinstance(value, type) else value


def write(path: Path, model: Any, state: State, changes: dict[str, str] | None = None) -> Path:
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(folded(state, "state", tensors))
    return publish(model, path, changes={"structure": structure} | (changes or {}), state=tensors)


@pytest.mark.parametrize("quantise", [by_hand, by_diffq, in_halves])
@pytest.mark.parametrize(("kind", "settings"), [("HDemucs", HYBRID), ("HDemucs", {"depth": 3}), ("Demucs", WAVES)])
def test_weights_are_those_that_their_authors_restore(
    kind: str, settings: dict[str, Any], quantise: Callable[[Any], State], tmp_path: Path
) -> None:
    model = theirs(kind, **HYBRID | settings if kind == "HDemucs" else settings)
    path = write(tmp_path / "model.safetensors", model, quantise(model))
    ours = load(path).state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-6)


def test_a_song_comes_out_of_a_quantised_bag_as_it_does_from_the_package(tmp_path: Path) -> None:
    from demucs.apply import BagOfModels, apply_model

    models = {"hybrid": theirs("HDemucs", **HYBRID), "waves": theirs("Demucs", **WAVES)}
    for name, model in models.items():
        write(tmp_path / f"{name}.safetensors", model, by_hand(model))
    (tmp_path / "bag.yaml").write_text(f"models: {list(models)}\nsegment: 0.5\n")
    mix = noise(50000)
    expected = apply_model(BagOfModels(list(models.values()), None, 0.5), mix, shifts=0, overlap=0.25)[0]
    stems = Separator(tmp_path / "bag.yaml", device="cpu", precision="float32").separate(
        ArraySong(mix[0].numpy(), 44100)
    )
    assert np.abs(np.stack(list(stems.values())) - expected.numpy()).max() < 1e-4


@cache
def quantised_waves() -> tuple[Any, State]:
    model = theirs("Demucs", **WAVES)
    return model, by_hand(model)


def waves() -> tuple[Any, State]:
    """Make a model, and what a file of it holds, to be changed."""
    model, state = quantised_waves()
    return model, copy.deepcopy(state)


def without(name: str) -> Callable[[State], object]:
    return lambda state: state.pop(name)


def meta(**changes: Any) -> Callable[[State], object]:
    return lambda state: state["meta"].update(changes)


def first(*changes: Any) -> Callable[[State], object]:
    """Change the first quantised weight: its levels, scale and bits, where they are not None."""

    def change(state: State) -> None:
        old = state["quantized"][0]
        state["quantized"][0] = tuple(a if b is None else b for a, b in zip(old, changes, strict=True))

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (meta(klass="os.system"), "quantised by 'os.system', in a way that this version does not know"),
        (meta(klass="diffq.uniform.UniformQuantizer"), "quantised by 'diffq.uniform.UniformQuantizer'"),
        (meta(packed=False), "in a way that this version does not know"),
        (meta(torch_pack=True), "in a way that this version does not know"),
        (meta(init_kwargs={**SETTINGS, "exclude": ["*bias"]}), "in a way that this version does not know"),
        (meta(init_kwargs={**SETTINGS, "group_size": 0}), "groups where 0 is"),
        (meta(init_kwargs={**SETTINGS, "min_size": "small"}), "its quantised weights are damaged"),
        (meta(init_kwargs={**SETTINGS, "min_bits": float("inf")}), "lack those of inf bits"),
        (without("quantized"), "lack 'quantized'"),
        (without("meta"), "lack 'meta'"),
        (lambda state: state["quantized"].pop(), "damaged: some of them are missing"),
        (lambda state: state["others"].pop(), "damaged: some of them are missing"),
        (lambda state: state["others"].append(torch.zeros(1)), "lack a model that has 1 weights more"),
        (lambda state: state["others"].__setitem__(0, 3), "its quantised weights are damaged"),
        (
            lambda state: state["others"].__setitem__(0, torch.zeros(3)),
            r"0.0.weight is \(3,\), not \(8, 2, 8\)",
        ),
        (first([None] * 14, None, None), "lack those of 2 bits"),
        (first(None, (0.0, float("nan")), None), "lack a finite scale where 0.0 to nan is"),
        (first(None, (0.0,), None), "its quantised weights are damaged"),
        (first(None, None, torch.zeros(1, 4, 32, dtype=torch.int32)), "torch.int32"),
        (first(None, None, torch.zeros(0, 4, 32, dtype=torch.int64)), r"numbers where \(0, 4, 32\)"),
        (first(None, None, torch.zeros(9, dtype=torch.int64)), "its quantised weights are damaged"),
        (first([torch.zeros(1, 1, 32)] * 14, None, None), "of torch.float32 are"),
    ],
)
def test_what_is_wrong_is_said(change: Callable[[State], object], says: str, tmp_path: Path) -> None:
    model, state = waves()
    change(state)
    path = write(tmp_path / "model.safetensors", model, state)
    with pytest.raises(CheckpointError, match=f"model.safetensors: .*{says}") as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "structure",
    ["[", "3", "{}", '{"_tensor": "elsewhere"}', '{"_dict": 3}', '{"_object": []}', '{"_list": []}', "[" * 100_000],
)
def test_a_structure_that_is_none(structure: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", *waves(), {"structure": structure})
    with pytest.raises(CheckpointError, match=r"model.safetensors: its quantised weights are damaged"):
        load(path)


def test_a_class_in_the_structure_is_a_name_and_nothing_else(tmp_path: Path) -> None:
    model, state = waves()
    state["meta"]["klass"] = "antigravity.Gravity"
    text = json.dumps(folded(state, "state", {})).replace('"antigravity.Gravity"', '{"_class": "antigravity.Gravity"}')
    path = write(tmp_path / "model.safetensors", model, state, {"structure": text})
    with pytest.raises(CheckpointError, match=r"quantised by 'antigravity\.Gravity'"):
        load(path)
    assert "antigravity" not in sys.modules


def test_of_the_transformer_there_are_none(tmp_path: Path) -> None:
    path = publish(theirs("HTDemucs", **TRANSFORMER), tmp_path / "model.safetensors", changes={"structure": "{}"})
    with pytest.raises(CheckpointError, match="quantised, which this version reads of version 3 alone"):
        read_header(path)


@pytest.mark.parametrize("depth", [0, 1, 7, 14])
@pytest.mark.parametrize("count", [0, 1, 2047, 2048, 5000])
def test_numbers_come_out_as_they_went_in(depth: int, count: int) -> None:
    levels = np.random.default_rng(count).integers(0, 2**depth, count)
    assert numbers(packed(levels, depth), count).tolist() == levels.tolist()
