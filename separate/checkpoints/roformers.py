"""RoFormers of others: their settings are read off the shapes of their weights, and off the .yaml beside them.

Those of a published shape are read as they are, too: a file of safetensors that holds weights and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from separate.checkpoints.foreign import Foreign, Weights
from separate.checkpoints.header import Header
from separate.checkpoints.plan import Plan, check_stems, count, only, size
from separate.errors import CheckpointError, UsageError
from separate.models import LARGEST
from separate.models.roformer import PRESETS, RoFormerConfig

__all__ = ["MARK", "read_roformer", "roformer", "without_turns"]

MARK = r"^band_split\.to_features\.0\.1\.weight$"  # a weight by which they are known
TURNS = r"\.rotary_embed\.freqs$"  # how they keep the angles by which positions turn numbers; ours are computed


def roformer(files: Sequence[Foreign], sources: list[str] | None) -> Plan:
    """Plan for a file of weights with the .yaml that they were trained by, or without it for those of a known shape."""
    weights = only([file for file in files if file.weights]).weights
    settings = next((file.settings for file in files if not file.weights), {})
    made, audio, training = (section(settings, name) for name in ("model", "audio", "training"))
    for name in ("skip_connection", "stft_normalized", "zero_dc", "use_pope"):
        if made.get(name):
            raise CheckpointError(f"this RoFormer was made with {name} = {made[name]!r}, which ours does not have")
    check_turns(weights)
    config = roformer_shape(weights, made.get("stereo", True))
    if made:
        rate = whole(made, "sample_rate", whole(audio, "sample_rate", 44100))
        config["sample_rate"], config["stereo"] = rate, made.get("stereo", True)
        config["n_fft"], config["hop"] = made.get("stft_n_fft", 2048), made.get("stft_hop_length", 512)
        config["segment"] = whole(audio, "chunk_size", 8 * rate) / rate
        config["context"] = min(0.5, config["segment"] / 16)
    else:
        presets = (vars(RoFormerConfig(**preset)) for preset in PRESETS.values())
        known = next((preset for preset in presets if config.items() <= preset.items()), None)
        if known is None:
            raise CheckpointError("how far its frames are apart is not in these weights: give the .yaml with them")
        config = known | config
    masks = count(weights, r"mask_estimators\.\d+\.to_freqs\.0\.0\.0\.weight")
    stems = roformer_stems(masks, training, sources)
    return Plan(config | stems, weights, lambda name: name, TURNS)


def read_roformer(path: Path) -> Header:
    """Say what a file of weights alone is, by their shapes, which are all that is read of it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            shapes = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: its weights cannot be read: {error}") from error
    try:
        config = roformer([Foreign(path, shapes, {})], None).config
    except (CheckpointError, UsageError) as error:
        raise CheckpointError(f"{path}: {error}; `separate convert` takes both") from error
    stems, facts = tuple(config["sources"]), {"published as": path.name}
    return Header("roformer", config, stems, config["sample_rate"], "unknown", facts, (path,))


def without_turns(path: Path, weights: Weights) -> Weights:
    """Leave out of the weights in a file the angles by which positions turn numbers, which ours computes."""
    try:
        check_turns(weights)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return {name: value for name, value in weights.items() if not re.search(TURNS, name)}


def check_turns(weights: Weights) -> None:
    """Refuse a model whose positions turn numbers by other angles than ours does."""
    for name, value in weights.items():
        if re.search(TURNS, name) and not value.is_meta:
            speeds = 10000.0 ** -(torch.arange(len(value)) / len(value))
            if value.ndim != 1 or not value.float().allclose(speeds, rtol=0.01):
                raise CheckpointError(f"{name} turns positions by other angles than ours does")


def roformer_shape(weights: Weights, stereo: bool) -> dict[str, Any]:
    """Read off the shapes of its weights what a RoFormer is like."""
    linear = count(weights, r"layers\.0\.0\.layers\.\d+\.0\.temperature")
    time, band = (f"layers.0.{axis + (linear > 0)}.layers" for axis in (0, 1))
    heads = size(weights, f"{time}.0.0.to_gates.weight", 0)
    width = size(weights, "band_split.to_features.0.1.weight", 0)
    mask = "mask_estimators.0.to_freqs.0.0"
    shape = {
        "width": width,
        "depth": count(weights, r"layers\.\d+\.0\.layers\.0\.1\.net\.1\.weight"),
        "linear_layers": linear,
        "time_layers": count(weights, rf"{re.escape(time)}\.\d+\.0\.to_gates\.weight"),
        "band_layers": count(weights, rf"{re.escape(band)}\.\d+\.0\.to_gates\.weight"),
        "heads": heads,
        "head_width": size(weights, f"{time}.0.0.to_qkv.weight", 0) // (3 * heads),
        "mask_layers": count(weights, rf"{re.escape(mask)}\.\d+\.weight") - 1,
    }
    if shape["mask_layers"] > 0:
        shape["mask_expansion"] = size(weights, f"{mask}.0.weight", 0) // width
    bands = count(weights, r"band_split\.to_features\.\d+\.1\.weight")
    if "final_norm.gamma" not in weights:
        return shape | {"norm": "each", "mel": bands}
    numbers = [size(weights, f"band_split.to_features.{i}.1.weight", 1) for i in range(bands)]
    return shape | {"norm": "last", "mel": 0, "bands": tuple(n // (4 if stereo else 2) for n in numbers)}


def roformer_stems(masks: int, training: Mapping[str, Any], sources: list[str] | None) -> dict[str, Any]:
    """Name the stems of a RoFormer: one a mask, and what they leave of the song if there is one more."""
    instruments, target = training.get("instruments") or [], training.get("target_instrument")
    if not isinstance(instruments, list):
        raise CheckpointError(f"instruments are no list of names: {instruments!r}")
    names = sources or [str(name).lower() for name in instruments]
    if not sources and masks == 1 and (target or len(names) < 2):  # one mask, whatever else it was trained beside
        first = str(target).lower() if target else names[0] if names else "vocals"
        others = [name for name in names if name != first]
        names = [first, others[0] if len(others) == 1 else "other" if first == "vocals" else "rest"]
        if "vocals" in names:
            names = ["accompaniment" if name in ("other", "instrumental") else name for name in names]
    elif not sources:
        check_stems(names, masks)
    rest = len(names) == masks + 1
    check_stems(names, masks + rest)
    return {"sources": names, "rest": rest}


def section(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Take a part of the settings in a file, which must be a table if it is there."""
    value = settings.get(name) or {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} is no table of settings: {value!r}")
    return value


def whole(settings: Mapping[str, Any], name: str, default: int) -> int:
    """Look up a setting that must be a whole number from 1 up, of a size that one can have."""
    value = settings.get(name, default)
    if type(value) is not int or not 0 < value < LARGEST:
        raise CheckpointError(f"{name} = {value!r} is no whole number from 1 to {LARGEST - 1}")
    return value
