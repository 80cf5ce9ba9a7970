"""museval, the field's own program, without musdb: that would want ffmpeg, and only reads data sets."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType

sys.modules.setdefault("musdb", ModuleType("musdb"))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import museval
    from museval.aggregate import EvalStore, MethodStore, TrackStore

__all__ = ["EvalStore", "MethodStore", "TrackStore", "museval"]
