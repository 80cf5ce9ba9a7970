"""Vocal tracks made of clips of singing: phrases and rests, backing voices, and what a studio adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from separate.training import augment as fx
from separate.training.instruments import play

__all__ = ["Voices", "make_vocals"]

RATE = fx.RATE


@dataclass(frozen=True)
class Voices:
    """Groups of clips, (channel, time) each, and how often a phrase is taken from each group."""

    groups: Sequence[Sequence[Tensor]]
    odds: Sequence[float]

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Draw a clip."""
        group = self.groups[int(rng.choice(len(self.groups), p=np.asarray(self.odds) / np.sum(self.odds)))]
        return group[int(rng.integers(len(group)))]


def make_vocals(voices: Voices, rng: np.random.Generator, seconds: float) -> Tensor:
    """Make one vocal track, (2, time): a lead, and often backing voices."""
    lead = _line(voices, rng, seconds, rest=rng.uniform(0.05, 0.6) if rng.random() < 0.7 else rng.uniform(0.2, 3.0))
    out = _studio(lead, rng, 0.0 if rng.random() < 0.8 else rng.uniform(-0.4, 0.4))
    for _ in range(int(rng.choice([0, 0, 1, 2]))):
        backing = _studio(_line(voices, rng, seconds, rest=rng.uniform(2, 8)), rng, rng.uniform(-0.9, 0.9))
        out = out + backing * 10 ** (rng.uniform(-14, -4) / 20)
    if rng.random() < 0.25:  # the lead doubled: the same words a little later and out of tune
        other = fx.speed(lead, 2 ** (rng.normal(0, 8) / 1200))[:, : lead.shape[1]]
        shifted = torch.zeros_like(lead)
        play(shifted, other, rng.uniform(0.01, 0.035))
        out = out + _studio(shifted, rng, rng.uniform(-0.9, 0.9)) * 10 ** (rng.uniform(-10, -3) / 20)
    return fx.level(out)


def _line(voices: Voices, rng: np.random.Generator, seconds: float, rest: float) -> Tensor:
    """One voice from beginning to end: pieces of clips, each as high and fast as drawn, with rests between."""
    out = torch.zeros(1, int(seconds * RATE))
    at = rng.exponential(rest)
    shift = rng.normal(0, 2)
    while at < seconds - 1:
        whole = voices.draw(rng)
        length = min(whole.shape[1], int(rng.uniform(3, 14) * RATE))
        begin = int(rng.integers(0, whole.shape[1] - length + 1))
        piece = whole[:, begin : begin + length].float().mean(0, keepdim=True)
        if piece.square().mean() < 1e-5:
            at += 0.5
            continue
        fade = min(RATE // 50, length // 2)
        piece = piece.clone()
        piece[:, :fade] *= torch.linspace(0, 1, fade)
        piece[:, length - fade :] *= torch.linspace(1, 0, fade)
        piece = fx.level(fx.speed(piece, 2 ** ((shift + rng.normal(0, 1)) / 12)))
        play(out, piece, at)
        at += piece.shape[1] / RATE + rng.exponential(rest)
    return out


def _studio(x: Tensor, rng: np.random.Generator, place: float) -> Tensor:
    """High-pass, equaliser, compressor, then width, echo and room."""
    if x.square().sum() == 0:
        return x.expand(2, -1)
    x = fx.equalise(fx.level(x), [50, rng.uniform(80, 160)], [-24, 0])
    x = fx.random_equaliser(x, rng, 3)
    if rng.random() < 0.85:
        x = fx.compress(fx.level(x), rng.uniform(-36, -22), rng.uniform(2, 8))
    if rng.random() < 0.5:
        x = fx.equalise(x, [2000, 8000], [0, rng.uniform(2, 8)])  # air
    if rng.random() < 0.1:
        x = fx.drive(fx.level(x), rng.uniform(2, 8))
    x = fx.pan(x, place)
    if rng.random() < 0.15:
        x = fx.chorus(x, rng)
    if rng.random() < 0.3:
        x = fx.echo(x, rng.uniform(0.08, 0.5), rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.3))
    if rng.random() < 0.85:
        x = fx.reverb(x, rng, float(np.exp(rng.uniform(-1.2, 1.1))), rng.uniform(0.01, 0.3))
    return x
