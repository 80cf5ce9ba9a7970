"""What can be had without a model: the floor that every separator should leave behind."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from separate.dsp import hpss as _hpss
from separate.dsp import repet as _repet

__all__ = ["hpss", "mixture", "repet"]

FOUR = ("vocals", "drums", "bass", "other")


def mixture(mix: Tensor, rate: int, stems: Sequence[str] = FOUR) -> dict[str, Tensor]:
    """Take the mixture, divided by the number of stems, for every stem, and for the accompaniment too.

    The accompaniment gets no more than the others, as in the figures of others: it is one more estimate of the kind.
    """
    return {stem: mix / len(stems) for stem in (*stems, "accompaniment")}


def repet(mix: Tensor, rate: int) -> dict[str, Tensor]:
    """Take what repeats for the accompaniment, and what does not for the vocals."""
    background, foreground = _repet.repet(mix, rate)
    return {"vocals": foreground, "accompaniment": background}


def hpss(mix: Tensor, rate: int) -> dict[str, Tensor]:
    """Take the percussive part for the drums, and share the harmonic part evenly among the other three stems."""
    harmonic, percussive = _hpss.hpss(mix, rate)
    return {stem: percussive if stem == "drums" else harmonic / (len(FOUR) - 1) for stem in FOUR}
