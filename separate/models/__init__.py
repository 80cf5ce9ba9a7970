"""The architectures, one file each, and the seam that they share.

A model is a `torch.nn.Module` whose `forward` takes a mixture (batch, channel, time) at `sample_rate` and returns
its stems (batch, source, channel, time). Besides, it says

    sources       the names of its stems, in the order of its output
    sample_rate   in Hz
    segment       seconds of a chunk that it works best on
    context       seconds at either end of a chunk that only serve as surroundings
    sums          whether its stems add up to the mixture

and, if the usual does not suit it (a grid of 8192),

    grid          samples: a chunk that starts at a multiple of it is cut as the whole song would be
    around        samples on either side of a chunk that `forward(mix, around)` is given too, and only hears; chunks are
                  then cut as Demucs does

Nothing else is asked of it: no caller looks at its type.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from separate.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MIXTURE", "MODELS", "Model", "build", "check_config", "check_stems"]

MIXTURE = "mixture"  # what the song itself is called where it stands among its stems

STEM = re.compile(r"[^./\\][^/\\]{0,99}")  # what a stem, and so its file, may be called

LARGEST = 2**31  # number that a setting can be

# architecture -> "module:model class:config class"
MODELS = {
    "d2-gru": "separate.models.d2gru:D2GRU:D2GRUConfig",
    "open-unmix": "separate.models.open_unmix:OpenUnmix:OpenUnmixConfig",
    "spleeter": "separate.models.spleeter:Spleeter:SpleeterConfig",
    "blstm": "separate.models.blstm:BLSTM:BLSTMConfig",
    "mad": "separate.models.mad:MaD:MaDConfig",
    "demucs": "separate.models.demucs:Demucs:DemucsConfig",
    "wdemucs": "separate.models.wdemucs:WDemucs:WDemucsConfig",
    "hdemucs": "separate.models.hdemucs:HDemucs:HDemucsConfig",
    "htdemucs": "separate.models.htdemucs:HTDemucs:HTDemucsConfig",
    "bag": "separate.models.bag:Bag:BagConfig",
    "wave-u-net": "separate.models.wave_unet:WaveUNet:WaveUNetConfig",
    "cws-mdensenet": "separate.models.densenet:MDenseNetModel:MDenseNetConfig",
    "cws-mmdensenet": "separate.models.densenet:MMDenseNetModel:MMDenseNetConfig",
    "cws-unet": "separate.models.unet:UNetModel:UNetConfig",
    "mmdenselstm": "separate.models.mmdenselstm:MMDenseLSTM:MMDenseLSTMConfig",
    "roformer": "separate.models.roformer:RoFormer:RoFormerConfig",
}


class Model(Protocol):
    """What the rest of the house knows of a model. Every one is a `torch.nn.Module` as well."""

    sources: tuple[str, ...]
    sample_rate: int
    segment: float
    context: float
    sums: bool

    def __call__(self, mix: Tensor) -> Tensor:
        """(batch, channel, time) -> (batch, source, channel, time)."""
        ...


def build(architecture: str, config: Mapping[str, Any]) -> Any:
    """Make the model `architecture` with the settings in `config`; its weights are random until some are loaded."""
    if architecture not in MODELS:
        raise CheckpointError(f"unknown architecture {architecture!r}: this version knows {', '.join(sorted(MODELS))}")
    module_name, model_name, config_name = MODELS[architecture].split(":")
    module = import_module(module_name)
    model = getattr(module, model_name)(check_config(getattr(module, config_name), architecture, config))
    check_stems(model.sources, architecture)
    return model


def check_config(kind: Any, architecture: str, config: Mapping[str, Any]) -> Any:
    """Turn the plain data of a header or a recipe into the dataclass `kind`, naming what does not fit."""
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(config) - known):
        raise CheckpointError(f"{architecture} has no setting {unknown[0]!r}: it knows {', '.join(sorted(known))}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    for field in dataclasses.fields(kind):
        if field.name in values and not same_kind(values[field.name], field.default):
            like = list(field.default) if isinstance(field.default, tuple) else field.default
            raise CheckpointError(
                f"{architecture}: {field.name} = {config[field.name]!r} is not of the kind of its default, {like!r}"
            )
    try:
        return kind(**values)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{architecture}: {error}") from error


def check_stems(sources: Sequence[str], where: object) -> None:
    """Refuse stems whose names cannot be those of files in one folder: a path would lead out of it."""
    for number, name in enumerate(sources):
        if not STEM.fullmatch(name) or not name.isprintable() or name == MIXTURE:
            raise CheckpointError(f"{where}: a stem cannot be called {name!r}")
        if name in sources[:number]:
            raise CheckpointError(f"{where}: two stems cannot both be called {name!r}")


def same_kind(value: Any, default: Any) -> bool:
    """Tell whether a setting is of its default's type: a list of the same things, and whole numbers where any fit.

    Neither NaN nor anything infinite is a number here, nor what no size of a net could be.
    """
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(same_kind(item, default[0]) for item in value)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9
    return type(value) is type(default) and (not isinstance(value, int) or -LARGEST < value < LARGEST)
