"""Validation: songs that nothing is learnt from, as they were recorded, through the model as users run it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from separate.training.config import Mixing
from separate.training.mixing import Mixer, WaveMixer
from separate.training.objectives import Objective, grouped, known
from separate.training.pool import Pool

__all__ = ["Score", "sdr", "validate"]

SILENCE = 1e-8  # mean square: -80 dB


@dataclass(frozen=True)
class Score:
    """What came out: the mean loss, and of each stem, or each sum of stems that is known, the median SDR in dB."""

    loss: float
    sdr: dict[str, float]


def validate(model: Any, objective: Objective, pool: Pool, mixing: Mixing, clips: int) -> Score:
    """Judge `model` on so many clips of the songs in `pool`, always the same ones."""
    mixer = Mixer(pool, as_recorded(mixing), seed=0)
    batches, waves = objective.batches(mixer, model), WaveMixer(mixer)
    losses: list[float] = []
    found: dict[str, list[float]] = defaultdict(list)
    with torch.no_grad():
        for clip in range(clips):
            losses.append(float(objective.loss(model, batches(clip))))
            batch = waves(clip)
            estimate = known(grouped(model(batch.mixture), batch.groups), batch)[0]  # (group, channel, time)
            truth = known(grouped(batch.stems, batch.groups), batch)[0]
            for group, members in enumerate(batch.groups[0]):
                if float(truth[group].square().mean()) > SILENCE:
                    name = "+".join(model.sources[source] for source in members.nonzero()[:, 0].tolist())
                    found[name].append(sdr(truth[group], estimate[group]))
    return Score(mean(losses), {name: median(values) for name, values in found.items()})


def sdr(truth: Tensor, estimate: Tensor) -> float:
    """Compute the energy of the truth by that of the error, in dB: 10 log₁₀ Σ s² / Σ (s − ŝ)²."""
    error = (truth - estimate).square().sum()
    return float(10 * torch.log10(truth.square().sum() / error.clamp(min=1e-12)))


def as_recorded(mixing: Mixing) -> Mixing:
    """Leave nothing to chance but the song and the place."""
    chances = ("gain", "level", "master", "equaliser", "varispeed", "absent", "vocals", "sign", "swap", "width")
    none = dict.fromkeys((*chances, "panned", "mono", "clip", "peak"), 0.0)
    return dataclasses.replace(
        mixing, **none, scale=(1.0, 1.0), batch=1, turns=1, together=1.0, songs=1.0, natural=True
    )
