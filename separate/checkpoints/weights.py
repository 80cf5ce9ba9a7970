"""Checkpoints on disk: one safetensors file whose header says what it is.

The header's metadata holds, all as strings:

    format         "separate/1"
    architecture   a key of models.MODELS
    config         JSON: what differs from the architecture's defaults, or all of it
    sources        JSON: the stems, in order
    sample_rate    Hz
    licence        an SPDX name where there is one
    training       JSON: data, minutes, hardware, measured figures; free-form facts for people

A file is data: nothing in it is executed, and its architecture is looked up in our own table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separate.errors import CheckpointError
from separate.models import build

if TYPE_CHECKING:
    import torch

__all__ = ["Header", "load", "read_header", "save"]

FORMAT = "separate/1"
HEADER_LIMIT = 16 * 2**20  # bytes; the largest real headers are under one MiB


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself."""

    architecture: str
    config: dict[str, Any]
    sources: tuple[str, ...]
    sample_rate: int
    licence: str
    training: dict[str, Any]


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read what the checkpoint at `path` says of itself, without its weights and without torch."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= min(HEADER_LIMIT, path.stat().st_size - 8):
                raise CheckpointError(f"{path}: not a safetensors file; give a checkpoint that separate made")
            head = json.loads(file.read(size))
        metadata = head["__metadata__"]
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: not a checkpoint of separate, its format is {metadata.get('format')!r}")
        return Header(
            architecture=metadata["architecture"],
            config=_dict(metadata["config"]),
            sources=tuple(json.loads(metadata["sources"])),
            sample_rate=int(metadata["sample_rate"]),
            licence=metadata["licence"],
            training=_dict(metadata["training"]),
        )
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of separate, its header is damaged or lacks {error}"
        ) from error


def load(path: str | os.PathLike[str], **overrides: Any) -> Any:
    """Build the model of the checkpoint at `path`, ready for inference; `overrides` go into its config."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from separate.models.layers import fold_weight_norm

    header = read_header(path)
    model = build(header.architecture, header.config | overrides)
    if model.sources != header.sources or model.sample_rate != header.sample_rate:
        raise CheckpointError(f"{path}: its header contradicts its config about the stems or the sample rate")
    try:
        state = fold_weight_norm(load_file(path))
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path}: its weights cannot be read: {error}") from error
    _check_state(path, model.state_dict(), state)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


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


def _dict(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"a JSON object where {value!r} is")
    return value


def _check_state(path: str | os.PathLike[str], wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Name the first three weights that are missing, too many or of the wrong shape."""
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} is unknown" for name in found if name not in wanted]
    wrong += [
        f"{name} is {tuple(found[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{path}: its weights do not fit its architecture: {'; '.join(wrong[:3])}{more}")
