"""A drum machine that never was: hits computed from tones and noise, another machine for every song.

Recorded hits are few, and a net learns them by heart. These are as many as there are seeds. Above all their low ends
are: how low a kick goes, how fast, and how long it rings tells it from a bass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from separate.training.augment import RATE, drive, equalise
from separate.training.instruments import Shot

__all__ = ["machine_hits"]


def machine_hits(role: str, rng: np.random.Generator, strengths: int = 3) -> list[Shot]:
    """Invent a sound for a role, as "kick" or "hihat-open", and strike it softly to hard."""
    seed = int(rng.integers(2**32))
    colour, depth = rng.normal(0, 4, 6), float(np.exp(rng.uniform(-1.5, 1.8)))
    driven = rng.random() < 0.4
    hits = []
    for strength in np.linspace(0.5, 1, strengths):
        x = _MAKERS[role](np.random.default_rng(seed), float(strength))  # the same machine, another strength
        x = equalise(x, [50, 120, 400, 1500, 5000, 12000], list(colour))
        x = drive(x / x.abs().amax(), depth) if driven else x
        x = x / x.abs().amax()
        head = x[:, : RATE // 2]
        hits.append(Shot(x.half(), 0, float(head.square().mean().sqrt().clamp(min=1e-4))))
    return hits


def _kick(rng: np.random.Generator, strength: float) -> Tensor:
    """Let a tone fall, fast at first, with a click in front of it: from tight to booming."""
    low, start = np.exp(rng.uniform(np.log(34), np.log(80))), rng.uniform(1.5, 9)
    fast, slow = np.exp(rng.uniform(np.log([0.004, 0.02]), np.log([0.02, 0.12])))
    ring, held = np.exp(rng.uniform(np.log(0.04), np.log(0.5))), rng.uniform(0, 0.08)
    t = _time(held + 6 * ring)
    falling = low * (1 + start * strength * torch.exp(-t / fast) + rng.uniform(0, 1.2) * torch.exp(-t / slow))
    tone = torch.sin(2 * math.pi * torch.cumsum(falling, 0) / RATE) * torch.exp(-(t - held).clamp(min=0) / ring)
    click = _noise(rng, t) * torch.exp(-t / rng.uniform(0.0005, 0.006)) * 10 ** (rng.uniform(-40, -8) / 20)
    return (tone + strength * click)[None]


def _snare(rng: np.random.Generator, strength: float) -> Tensor:
    """Let a skin sound in some modes over the rattle of wires, or hardly at all."""
    low, ring = rng.uniform(130, 280), np.exp(rng.uniform(np.log(0.03), np.log(0.2)))
    rattle = np.exp(rng.uniform(np.log(0.04), np.log(0.35)))
    t = _time(6 * max(ring, rattle))
    bend = 1 + rng.uniform(0, 0.6) * strength * torch.exp(-t / 0.015)
    skin = torch.zeros_like(t)
    modes = 1.0, rng.uniform(1.4, 1.9), rng.uniform(2.0, 2.6), rng.uniform(2.7, 4)
    for mode, loud in zip(modes, (1.0, 0.7, 0.4, 0.2), strict=True):
        turns = torch.cumsum(low * mode * bend, 0) / RATE + rng.uniform()
        skin += loud * rng.uniform(0.3, 1) * torch.sin(2 * math.pi * turns) * torch.exp(-t * mode / ring)
    from_, middle, top = rng.uniform(300, 1500), rng.uniform(0, 8), rng.uniform(-20, 0)
    wires = equalise(_noise(rng, t)[None], [100, from_, 4000, 14000], [-40, 0, middle, top])[0]
    wires = wires / wires.abs().amax() * torch.exp(-t / rattle)
    return (rng.uniform(0.1, 1) * skin + rng.uniform(0.3, 1.2) * strength * wires)[None]


def _tom(rng: np.random.Generator, strength: float) -> Tensor:
    low, ring = np.exp(rng.uniform(np.log(65), np.log(220))), rng.uniform(0.08, 0.5)
    t = _time(6 * ring)
    bend = 1 + rng.uniform(0.05, 0.8) * strength * torch.exp(-t / rng.uniform(0.02, 0.1))
    skin = torch.zeros_like(t)
    for mode, loud in ((1.0, 1.0), (rng.uniform(1.45, 1.7), rng.uniform(0, 0.5)), (rng.uniform(1.9, 2.4), 0.15)):
        skin += loud * torch.sin(2 * math.pi * torch.cumsum(low * mode * bend, 0) / RATE) * torch.exp(-t * mode / ring)
    stick = _noise(rng, t) * torch.exp(-t / 0.004) * rng.uniform(0, 0.3)
    return (skin + strength * stick)[None]


def _metal(rng: np.random.Generator, t: Tensor) -> Tensor:
    """Mix squares whose pitches have nothing to do with each other, and hiss, and keep the treble."""
    base = rng.uniform(200, 500)
    ringing = torch.zeros_like(t)
    for ratio in rng.uniform(1.0, 4.5, 6):
        ringing += torch.sign(torch.sin(2 * math.pi * (base * ratio * t + rng.uniform())))
    x = rng.uniform(0, 0.4) * ringing + rng.uniform(0.3, 1) * _noise(rng, t)
    edge = rng.uniform(2500, 8000)
    return equalise(x[None], [edge / 3, edge, 11000, 18000], [-60, 0, rng.uniform(-6, 4), rng.uniform(-30, -6)])


def _hihat(rng: np.random.Generator, strength: float, lasts: tuple[float, float] = (0.012, 0.09)) -> Tensor:
    ring = np.exp(rng.uniform(*np.log(lasts))) * (0.6 + 0.4 * strength)
    t = _time(6 * ring)
    return _metal(rng, t) * torch.exp(-t / ring)


def _cymbal(rng: np.random.Generator, strength: float) -> Tensor:
    """Let a blow spread over a plate."""
    ring = rng.uniform(0.3, 1.2)
    t = _time(min(4.0, 4 * ring))
    attack = _metal(rng, t) * torch.exp(-t / (0.25 * ring))
    return attack * rng.uniform(0.3, 1.5) * strength + _metal(rng, t) * torch.exp(-t / ring)


def _clap(rng: np.random.Generator, strength: float) -> Tensor:
    """Clap some hands, not quite at once, in a room."""
    t, tail = _time(0.6), rng.uniform(0.03, 0.15)
    at = np.cumsum(rng.uniform(0.005, 0.016, int(rng.integers(2, 5))))
    blows = rng.uniform(0.3, 1) * _fading(t, at[-1], tail)
    for start in at:
        blows += _fading(t, start, 0.004)
    middle = rng.uniform(800, 2500)
    hands = equalise(_noise(rng, t)[None], [middle / 4, middle, middle * 5], [-30, 0, rng.uniform(-25, -8)])
    return strength * hands * blows


def _rim(rng: np.random.Generator, strength: float) -> Tensor:
    ring, t = rng.uniform(0.004, 0.04), _time(0.25)
    x = rng.uniform(0.1, 1) * strength * _noise(rng, t)
    for hertz in rng.uniform(350, 2600, 3):
        x += torch.sin(2 * math.pi * hertz * t)
    return (x * torch.exp(-t / ring))[None]


# The roles that a kit asks for.
_MAKERS: dict[str, Callable[[np.random.Generator, float], Tensor]] = {
    "kick": _kick,
    "snare-sidestick": _rim,
    "snare": _snare,
    "tom": _tom,
    "hihat-open": partial(_hihat, lasts=(0.12, 0.6)),
    "hihat-closed": _hihat,
    "hihat-pedal": _hihat,
    "crash": _cymbal,
    "ride": _cymbal,
    "clap": _clap,
}


def _time(seconds: float) -> Tensor:
    return torch.arange(max(64, int(seconds * RATE))) / RATE


def _fading(t: Tensor, start: float, ring: float) -> Tensor:
    """Begin at `start` and die away."""
    return torch.exp(-(t - start).clamp(min=0) / ring) * (t >= start)


def _noise(rng: np.random.Generator, like: Tensor) -> Tensor:
    return torch.from_numpy(rng.standard_normal(len(like), dtype=np.float32))
