"""Vocals, drums, bass and the rest of a song as separate files.

>>> from separate import Separator
>>> separator = Separator("d2-gru")                 # doctest: +SKIP
>>> vocals = separator.separate("song.wav")["vocals"]  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from separate.audio.reader import AudioReader as AudioReader
    from separate.errors import CheckpointError as CheckpointError
    from separate.errors import DependencyError as DependencyError
    from separate.errors import DeviceMemoryError as DeviceMemoryError
    from separate.errors import DeviceUnavailable as DeviceUnavailable
    from separate.errors import InputError as InputError
    from separate.errors import OutputError as OutputError
    from separate.errors import OutputExists as OutputExists
    from separate.errors import SeparateError as SeparateError
    from separate.errors import UnknownModel as UnknownModel
    from separate.errors import UnknownStem as UnknownStem
    from separate.errors import UsageError as UsageError
    from separate.separator import ArraySong as ArraySong
    from separate.separator import Separator as Separator
    from separate.separator import Stems as Stems
    from separate.separator import separate as separate

__version__ = "0.1.0"

# Names arrive when they are asked for (PEP 562): importing separate does not import torch.
_HOMES = {
    "AudioReader": "separate.audio.reader",
    "ArraySong": "separate.separator",
    "Separator": "separate.separator",
    "Stems": "separate.separator",
    "separate": "separate.separator",
    "CheckpointError": "separate.errors",
    "DependencyError": "separate.errors",
    "DeviceMemoryError": "separate.errors",
    "DeviceUnavailable": "separate.errors",
    "InputError": "separate.errors",
    "OutputError": "separate.errors",
    "OutputExists": "separate.errors",
    "SeparateError": "separate.errors",
    "UnknownModel": "separate.errors",
    "UnknownStem": "separate.errors",
    "UsageError": "separate.errors",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
