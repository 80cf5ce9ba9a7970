"""The authors' package: models with random weights that are all awake, and files as it publishes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

STEMS = ["drums", "bass", "other", "vocals"]

# As small as these classes get, with everything that they are made of.
WAVES = {
    "channels": 8,
    "depth": 4,
    "norm_starts": 2,
    "norm_groups": 2,
    "dconv_attn": 3,
    "dconv_lstm": 2,
}
HYBRID = {"channels": 8, "depth": 4, "nfft": 256, "norm_starts": 2, "dconv_attn": 3, "dconv_lstm": 2}
TRANSFORMER = {"channels": 8, "depth": 3, "nfft": 512, "bottom_channels": 32, "t_heads": 4, "t_layers": 3}


def theirs(kind: str, seed: int = 0, **settings: Any) -> Any:
    """Make a model of the package: "Demucs", "HDemucs" or "HTDemucs"."""
    from demucs.demucs import Demucs
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(seed)
    model = {"Demucs": Demucs, "HDemucs": HDemucs, "HTDemucs": HTDemucs}[kind](STEMS, **settings)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(".scale"):  # as small as these begin, nobody would hear what they scale
                value.uniform_(0.1, 0.3)
            elif "norm" in name:
                value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def publish(
    model: Any,
    path: Path,
    half: bool = False,
    changes: Mapping[str, str] | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write a model of the package as it is published: weights, and in the metadata what the class is made with."""
    args, kwargs = model._init_args_kwargs
    kind = type(model)
    metadata = {
        "klass": f"{kind.__module__}.{kind.__qualname__}",
        "args": json.dumps(args),
        "kwargs": json.dumps(kwargs, default=as_fraction),
    }
    state = {name: value.half() if half else value for name, value in (state or model.state_dict()).items()}
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata | dict(changes or {}))
    return path


def as_fraction(value: Fraction) -> dict[str, Any]:
    return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}


def noise(length: int, batch: int = 1) -> torch.Tensor:
    """Make something that no two samples of are alike: (batch, 2, length)."""
    return 0.1 * torch.randn(batch, 2, length, generator=torch.Generator().manual_seed(1))
