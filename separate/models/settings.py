"""What the settings of many models must keep to; whoever gives others hears which, and what was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

__all__ = [
    "check_choices",
    "check_chunk",
    "check_dropout",
    "check_frames",
    "check_least",
    "check_names",
    "check_post",
    "check_sources",
]


def check_least(config: Any, least: Mapping[str, float]) -> None:
    """Refuse settings below the least that they may be, and what is no number."""
    for name, value in least.items():
        if not getattr(config, name) >= value:
            raise ValueError(f"{name} must be at least {value}, got {getattr(config, name)}")


def check_choices(config: Any, choices: Mapping[str, Sequence[str]]) -> None:
    """Refuse words that are none of those there are."""
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(config, name)!r}")


def check_sources(sources: Sequence[str]) -> None:
    """Refuse a model that separates nothing."""
    if not sources:
        raise ValueError("sources must name at least one, got none")


def check_names(sources: Sequence[str]) -> None:
    """Refuse stems that an `nn.ModuleDict` of one net a stem cannot have."""
    if not sources or len(set(sources)) < len(sources):
        raise ValueError(f"sources must name at least one, and each once, got {', '.join(sources) or 'none'}")
    taken = nn.ModuleDict()  # whose methods are names that its modules cannot have
    for name in sources:
        if not name or "." in name or hasattr(taken, name):
            raise ValueError(f"a stem cannot be called {name!r}: choose another name")


def check_chunk(segment: float, context: float) -> None:
    """Refuse chunks that are nothing but surroundings."""
    if not 0 <= 2 * context < segment:
        raise ValueError(f"a context of {context} s at either end fills a segment of {segment} s")


def check_frames(sample_rate: int, n_fft: int, hop: int, segment: float, context: float) -> None:
    """Refuse settings of a spectrogram and of a chunk that cannot be."""
    if sample_rate < 1:
        raise ValueError(f"sample_rate must be at least 1, got {sample_rate}")
    if n_fft < 4 or n_fft % 2 or not 1 <= hop <= n_fft // 4:
        raise ValueError(f"n_fft = {n_fft} must be even, and hop = {hop} from 1 to a quarter of it")
    check_chunk(segment, context)


def check_dropout(dropout: float) -> None:
    """Refuse to leave out everything, or less than nothing."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a share from 0 to below 1, got {dropout}")


def check_post(iterations: int, gl_iterations: int) -> None:
    """Refuse what makes no sense of the two settings of what comes after a net that says magnitudes."""
    if iterations < 0 or gl_iterations < 0:
        raise ValueError(f"wiener and griffin_lim count iterations, got {iterations} and {gl_iterations}")
