"""Weights of other programs -> a checkpoint of ours.

    files -> names and tensors -> which program's they are -> settings, read off their shapes -> model -> safetensors

`formats` says by what a program's weights are known, and makes a Plan of them: the settings of our architecture, and
what our weights are called there. What does not fit to the last weight is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from separate.checkpoints.foreign import Foreign, read
from separate.checkpoints.formats import FORMATS
from separate.checkpoints.plan import Plan
from separate.checkpoints.weights import save
from separate.errors import CheckpointError, OutputError, OutputExists, UsageError
from separate.models import build

__all__ = ["FORMATS", "convert"]


def convert(
    paths: Sequence[Path],
    target: Path,
    *,
    format: str | None = None,
    sources: Sequence[str] | None = None,
    licence: str = "unknown",
    force: bool = False,
) -> None:
    """Write the weights in `paths` as our checkpoint `target`.

    `format` is a key of FORMATS, for when it is to be no other; `sources` are the stems, in the order of the files
    or of the nets in them; `licence` is what the weights may be used for, which no file says.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"unknown format {format!r}: this version knows {', '.join(FORMATS)}")
    if not paths:
        raise UsageError(f"{target}: there is nothing to convert into it")
    if target.exists() and not force:
        raise OutputExists(f"{target}: exists already; choose another name, or overwrite it by --force")
    files = [read(path) for path in paths]
    architecture = recognised(files, format)
    said = ", ".join(str(path) for path in paths)
    try:
        plan = FORMATS[architecture][1](files, list(sources) if sources else None)
        model = fitted(architecture, plan)
    except CheckpointError as error:
        raise CheckpointError(f"{said}: {error}") from error
    facts = {"converted from": [path.name for path in paths]}
    try:
        save(target, model, architecture=architecture, licence=licence, training=facts)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors say them in words of their own
        reason = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
        raise OutputError(f"{target}: cannot be written: {reason}") from error


def recognised(files: Sequence[Foreign], wanted: str | None) -> str:
    """Find out whose weights these are; they must be of one program, and of the `wanted` one."""
    found: list[str] = []
    for file in files:
        if not file.weights:  # settings, which some formats have in a file of their own
            continue
        fits = (name for name, (mark, _) in FORMATS.items() if any(re.search(mark, key) for key in file.weights))
        kind = next(fits, wanted)
        if kind is None:
            some = ", ".join(list(file.weights)[:3])
            raise CheckpointError(f"{file.path}: weights of none of {', '.join(FORMATS)}: they are called {some} ...")
        found.append(kind)
        if kind != (wanted or found[0]):
            raise CheckpointError(f"{file.path}: these are weights of {kind}, not of {wanted or found[0]}")
    if not found:
        raise CheckpointError(f"{', '.join(str(file.path) for file in files)}: settings alone; add the file of weights")
    return found[0]


def fitted(architecture: str, plan: Plan) -> Any:
    """Build the model and give it its weights; name the first three that are missing, unknown or wrong."""
    with torch.device("meta"):
        model = build(architecture, plan.config)
    wanted = model.state_dict()
    state = dict(plan.own)
    names = {plan.theirs(name): name for name in wanted if name not in plan.own}
    wrong = []
    for theirs, ours in names.items():
        value = plan.weights.get(theirs)
        if value is None and ours.endswith("num_batches_tracked"):
            value = torch.tensor(0)  # of use in training only, and younger than some files
        if value is None:
            wrong.append(f"{theirs} is missing")
        elif value.shape != wanted[ours].shape:
            wrong.append(f"{theirs} is {tuple(value.shape)}, not {tuple(wanted[ours].shape)}")
        elif value.is_floating_point() != wanted[ours].is_floating_point():
            wrong.append(f"{theirs} is of {value.dtype}")
        elif value.is_floating_point() and not value.float().isfinite().all():  # of which songs become silence
            wrong.append(f"{theirs} holds NaN or infinity")
        else:
            state[ours] = value
    extra = [name for name in plan.weights if name not in names and not re.search(plan.spare, name)]
    wrong += [f"{name} is unknown" for name in extra]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"these weights are not a whole {architecture}: {'; '.join(wrong[:3])}{more}")
    model.load_state_dict(state, assign=True)
    return model
