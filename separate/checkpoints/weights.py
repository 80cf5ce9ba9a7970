"""Checkpoints on disk: one safetensors file whose header says what it is.

The header's metadata holds, all as strings:

    format         "separate/1"
    architecture   a key of models.MODELS
    config         JSON: what differs from the architecture's defaults, or all of it
    sources        JSON: the stems, in order
    sample_rate    Hz
    licence        an SPDX name where there is one
    training       JSON: data, minutes, hardware, measured figures; free-form facts for people

Checkpoints of the package `demucs`, and RoFormers of published shapes, are read as they are: see `published` and
`roformers`.

A file is data: nothing in it is executed, and its architecture is looked up in our own table.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separate.checkpoints.header import Header, has_weight, read_metadata
from separate.checkpoints.lock import digest
from separate.checkpoints.published import read_bag, read_published
from separate.errors import CheckpointError
from separate.models import build

if TYPE_CHECKING:
    import torch

__all__ = ["Header", "fingerprint", "load", "read_header", "save"]

FORMAT = "separate/1"


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read what the checkpoint at `path`, ours or a published one, says of itself, without torch."""
    path = Path(path)
    if path.suffix == ".yaml":
        return read_bag(path)
    metadata = read_metadata(path)
    if "klass" in metadata:
        return read_published(path, metadata)
    if metadata.get("format") != FORMAT:
        if has_weight(path, "band_split.to_features.0.1.weight"):
            from separate.checkpoints.roformers import read_roformer

            return read_roformer(path)
        raise CheckpointError(f"{path}: not a checkpoint of separate, its format is {metadata.get('format')!r}")
    try:
        return Header(
            architecture=metadata["architecture"],
            config=_dict(metadata["config"]),
            sources=tuple(json.loads(metadata["sources"])),
            sample_rate=int(metadata["sample_rate"]),
            licence=metadata["licence"],
            training=_dict(metadata["training"]),
            parts=(path,),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of separate, its header is damaged or lacks {error}"
        ) from error


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 of a checkpoint; that of a bag is over the hashes of all its files."""
    path = Path(path)
    hashes = [digest(file) for file in dict.fromkeys([path, *read_header(path).parts])]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def load(path: str | os.PathLike[str], **overrides: Any) -> Any:
    """Build the model of the checkpoint at `path`, ready for inference; `overrides` go into its config."""
    from safetensors import SafetensorError

    from separate.checkpoints.bounds import bounded
    from separate.checkpoints.undrawn import Undrawn
    from separate.models.layers import fold_weight_norm

    header = read_header(path)
    with bounded(path, header.parts), Undrawn():
        model = build(header.architecture, header.config | overrides)
    if model.sources != header.sources or model.sample_rate != header.sample_rate:
        raise CheckpointError(f"{path}: its header contradicts its config about the stems or the sample rate")
    try:
        models = [model] if len(header.parts) == 1 else model.models
        states = [_weights_of(*each) for each in zip(header.parts, models, strict=True)]
        state = fold_weight_norm(states[0] if len(states) == 1 else beside(states))
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path}: its weights cannot be read: {error}") from error
    wanted = model.state_dict()
    _check_state(path, wanted, state)
    # As they are in the file, which is mapped into memory, where that is the model's precision.
    model.load_state_dict({name: value.to(wanted[name].dtype) for name, value in state.items()}, assign=True)
    return model.eval().requires_grad_(False)


def beside(states: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Put the weights of several models into one state dict, that of a bag."""
    return {f"models.{i}.{name}": value for i, state in enumerate(states) for name, value in state.items()}


def save(
    path: str | os.PathLike[str],
    model: Any,
    *,
    architecture: str,
    licence: str,
    training: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write `model` as a checkpoint; weight norm is folded, and floats become `dtype` if one is given.

    The file appears under its name only when it is complete.
    """
    from safetensors.torch import save_file

    from separate.models.layers import fold_weight_norm

    state = {name: value.detach().cpu() for name, value in fold_weight_norm(model.state_dict()).items()}
    if dtype is not None:
        state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    config = asdict(model.config)
    metadata = {
        "format": FORMAT,
        "architecture": architecture,
        "config": json.dumps(config),
        "sources": json.dumps(model.sources),
        "sample_rate": str(model.sample_rate),
        "licence": licence,
        "training": json.dumps(dict(training)),
    }
    target = Path(path)
    part = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
    try:
        part.touch()
        mode = part.stat().st_mode  # what the user's files have; safetensors keeps everyone else out
        save_file({name: value.contiguous() for name, value in state.items()}, part, metadata)
        part.chmod(mode)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _weights_of(path: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Read the weights in a file, those of `model`, which knows the names that quantised ones do not have."""
    from safetensors.torch import load_file

    from separate.checkpoints.quantized import unquantized
    from separate.checkpoints.roformers import without_turns

    weights, structure = load_file(path), read_metadata(path).get("structure")
    return unquantized(path, structure, weights, model) if structure else without_turns(path, weights)


def _dict(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"a JSON object where {value!r} is")
    return value


def _check_state(path: str | os.PathLike[str], wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Name the first three weights that are missing, too many, or of the wrong shape or kind of number."""
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} is unknown" for name in found if name not in wanted]
    wrong += [
        f"{name} is {tuple(found[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    # Halves and doubles become what ours are; whole numbers where fractions should be are no weights.
    wrong += [
        f"{name} is of {found[name].dtype}, not {value.dtype}"
        for name, value in wanted.items()
        if name in found and found[name].is_floating_point() != value.is_floating_point()
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{path}: its weights do not fit its architecture: {'; '.join(wrong[:3])}{more}")
