"""Weights as Demucs' authors quantise them (`mdx_q`, `mdx_extra_q`): a few bits each, unpacked without their program.

The metadata's `structure` is JSON, the shape of a Python object whose tensors, each named there, lie in the file:

    {"_tensor": "state.others.0"}, {"_dict": [["quantized", ...], ...]}, {"_list": [...]}, {"_tuple": [...]},
    {"_class": "diffq.diffq.DiffQuantizer"}, or a number, text or null

Weights have no names in it. They come in the order in which their authors' model makes them: large ones quantised, the
others as they are. Of a large one, so many in a row (a group) have the same number of bits n, and are whole numbers
between the least and the greatest of all:

    w = low + (high − low) level / (2ⁿ − 1)

`levels` are packed by n, those of all groups of one bit, of two bits, and so on up to 14; so are the n of all groups,
less the least that n may be. 2048 of them are packed together, number 32 k + j of them being, in binary,

    Σ_b 2^b (bit k of packed[b, j])
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from separate.errors import CheckpointError

__all__ = ["unquantized"]

QUANTIZER = "diffq.diffq.DiffQuantizer"
TOGETHER = 32  # words of 64 bits, a bit of 2048 numbers
MOST = 14  # bits of a weight


def unquantized(path: Path, structure: str, tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Unpack the weights of a file for `model`, which knows their names and shapes."""
    try:
        state = unfolded(json.loads(structure), tensors)
        meta = state["meta"]
        made = {"min_size": 0.01, "group_size": 1, "min_bits": 2, "float16": False} | meta["init_kwargs"]
        if meta["klass"] != QUANTIZER or not meta["packed"] or meta.get("torch_pack") or made.get("exclude"):
            raise CheckpointError(f"{path}: quantised by {meta['klass']!r}, in a way that this version does not know")
        large, small = iter(state["quantized"]), iter(state["float16" if made["float16"] else "others"])
        group, least = made["group_size"], made["min_bits"]
        weights = {}
        for name, weight in in_their_order(model):
            if weight.numel() > made["min_size"] * 2**20 // 4:
                levels, scale, bits = next(large)
                weights[name] = unpacked(levels, scale, bits, weight.shape, group, least)
            else:
                weights[name] = next(small).float()
        if more := [*large, *small]:
            raise ValueError(f"a model that has {len(more)} weights more")
    except StopIteration as error:
        raise CheckpointError(f"{path}: its quantised weights are damaged: some of them are missing") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its quantised weights are damaged, or lack {error}") from error
    return weights


def unfolded(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Make the object whose shape `node` is; a class remains its name."""
    if not isinstance(node, dict):
        return node
    ((kind, inside),) = node.items()
    if kind == "_tensor":
        return tensors[inside]
    if kind == "_class":
        return inside
    if kind == "_dict":
        return {key: unfolded(value, tensors) for key, value in inside}
    if kind in ("_list", "_tuple"):
        return [unfolded(value, tensors) for value in inside]
    raise ValueError(f"a kind of thing that is known, where {kind!r} is")


def in_their_order(model: nn.Module) -> list[tuple[str, Tensor]]:
    """List the weights of a model as its authors' has them: in each layer, the branches come last."""
    weights = list(model.named_parameters())
    layers = list(dict.fromkeys(layer(name) for name, _ in weights))
    return sorted(weights, key=lambda weight: (layers.index(layer(weight[0])), ".dconv." in weight[0]))


def layer(name: str) -> str:
    """Name the layer that a weight belongs to: `encoder.0` of `encoder.0.conv.weight`."""
    found = re.match(r"\w+\.\d+|\w+", name)
    return found[0] if found else name


def unpacked(
    levels: list[Tensor | None], scale: list[float], bits: Tensor, shape: torch.Size, group: int, least: int
) -> Tensor:
    """Unpack one weight."""
    low, high = scale
    if not (isfinite(low) and isfinite(high) and group >= 1):
        raise ValueError(f"a finite scale where {low} to {high} is, or groups where {group} is")
    depth = numbers(bits, shape.numel() // group) + least  # (group)
    given = {n: packed for n, packed in enumerate(levels[:MOST], 1) if packed is not None}
    if lost := sorted(set(np.unique(depth.numpy()).tolist()) - given.keys()):
        raise ValueError(f"those of {lost[0]} bits")
    weight = torch.empty(len(depth), group)
    for n, packed in given.items():
        rows = (depth == n).nonzero()[:, 0]
        weight[rows] = numbers(packed, len(rows) * group).float().view(-1, group)
    step = (high - low) / (2.0**depth - 1)  # (group)
    return weight.mul_(step[:, None]).add_(low).view(shape)


def numbers(packed: Tensor, count: int) -> Tensor:
    """Unpack the first `count` numbers: (line, bit, 32) of 64 bits each -> (count)."""
    lines, depth, width = packed.shape
    if packed.dtype != torch.int64 or width != TOGETHER or depth > MOST + 1 or not 0 <= count <= lines * 64 * TOGETHER:
        raise ValueError(f"{count} numbers where {tuple(packed.shape)} of {packed.dtype} are")
    words = packed.numpy().astype("<i8").view(np.uint8).reshape(lines, depth, TOGETHER, 8)
    digits = np.unpackbits(words, axis=-1, bitorder="little")  # (line, bit, 32, 64)
    level = np.zeros((lines, TOGETHER, 64), np.int16)
    for b in range(depth):
        level |= digits[:, b].astype(np.int16) << b
    return torch.from_numpy(level.swapaxes(1, 2).reshape(-1)[:count].astype(np.int16))
