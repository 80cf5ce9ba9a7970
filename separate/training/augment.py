"""What mixing desks and microphones do to sound, one function each.

Signals are float tensors (channel, time) at RATE; what is left to chance comes from a numpy generator.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "chorus",
    "compress",
    "drive",
    "echo",
    "equalise",
    "level",
    "pan",
    "random_equaliser",
    "reverb",
    "sometimes_room",
    "speed",
]

RATE = 44100


def level(x: Tensor, rms: float = 0.1) -> Tensor:
    """Scale `x` so that the RMS of its active part, blocks within 30 dB of the loudest, is `rms`."""
    power = F.avg_pool1d(x.square().mean(0, keepdim=True), 4096, ceil_mode=True)[0]
    active = power[power > 1e-3 * power.max()]
    return x * (rms / active.mean().sqrt()) if len(active) else x


def speed(x: Tensor, ratio: float) -> Tensor:
    """Play `x` `ratio` times as fast, which moves pitch and formants alike; cubic interpolation."""
    time = x.shape[1]
    at = torch.arange(max(1, math.floor(time / ratio)), dtype=torch.float64) * ratio
    i = at.long().clamp(max=time - 1)
    t = (at - i).float()
    p = F.pad(x, (1, 2))
    a, b, c, d = p[:, i], p[:, i + 1], p[:, i + 2], p[:, i + 3]
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def pan(x: Tensor, position: float) -> Tensor:
    """Place `x` between left (−1) and right (1) at constant power; mono becomes stereo."""
    angle = (position + 1) * math.pi / 4
    gains = torch.tensor([[math.cos(angle)], [math.sin(angle)]]) * math.sqrt(2)
    return gains * (x if x.shape[0] == 2 else x.mean(0, keepdim=True))


def drive(x: Tensor, gain: float) -> Tensor:
    """Saturate: tanh(gain · x), at about the level that came in."""
    peak = max(float(x.abs().amax()), 1e-6)
    return torch.tanh(gain * x) * (peak / math.tanh(gain * peak))


def compress(x: Tensor, threshold: float = -18.0, ratio: float = 4.0, block: int = 256) -> Tensor:
    """Turn down by `ratio` what is over `threshold` dB: at once when it comes, within 150 ms when it goes."""
    power = F.avg_pool1d(x.square().mean(0, keepdim=True), block, ceil_mode=True)[0]
    over = (10 * torch.log10(power + 1e-12) - threshold).clamp(min=0) * (1 - 1 / ratio)
    fall, held, gains = math.exp(-block / (0.15 * RATE)), 0.0, []
    for wanted in over.tolist():
        held = max(wanted, held * fall)
        gains.append(-held)
    curve = F.interpolate(torch.tensor(gains)[None, None], size=x.shape[1], mode="linear")[0]
    return x * 10 ** (curve / 20)


def equalise(x: Tensor, frequencies: list[float], gains: list[float]) -> Tensor:
    """Filter `x` with a curve through `gains` (dB) at `frequencies` (Hz, rising), straight over log frequency."""
    size = _fast(x.shape[1] + 4096)
    f = torch.fft.rfftfreq(size, 1 / RATE).numpy()
    curve = np.interp(np.log(f + 1), np.log(np.array(frequencies) + 1), gains)
    return _filter(x, torch.from_numpy(10 ** (curve / 20)).float(), size)


def random_equaliser(x: Tensor, rng: np.random.Generator, depth: float = 4.0) -> Tensor:
    """Filter `x` with a smooth random curve of standard deviation `depth` dB."""
    return equalise(x, [60, 150, 400, 1000, 2500, 6000, 14000], list(rng.normal(0, depth, 7)))


def reverb(x: Tensor, rng: np.random.Generator, seconds: float, wet: float) -> Tensor:
    """Add a room: stereo noise that dies by 60 dB within `seconds`, faster in the treble, at `wet` of the dry power."""
    size = int(1.2 * seconds * RATE)
    t = torch.arange(size) / RATE
    noise = torch.from_numpy(rng.standard_normal((2, size), dtype=np.float32))
    dark = F.avg_pool1d(noise, 9, 1, 4) * 2.0
    bright = noise - F.avg_pool1d(noise, 5, 1, 2)
    room = dark * 10 ** (-3 * t / seconds) + 0.5 * bright * 10 ** (-6 * t / seconds)
    room = F.pad(room, (int(rng.uniform(0, 0.04) * RATE), 0))  # the first reflections take their time
    stereo = x.expand(2, -1)
    n = _fast(stereo.shape[1] + room.shape[1])
    tail = _filter(stereo, torch.fft.rfft(room, n=n), n)
    return stereo + tail * (wet * stereo.square().mean() / tail.square().mean().clamp(min=1e-12)).sqrt()


def sometimes_room(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Put `x` in a room of random size, more often than not."""
    if rng.random() < 0.4:
        return x
    return reverb(x, rng, float(np.exp(rng.uniform(-1.5, 1.0))), rng.uniform(0.02, 0.35))


def echo(x: Tensor, delay: float, feedback: float, wet: float) -> Tensor:
    """Add repeats, `delay` seconds apart, each `feedback` of the one before."""
    y, gain, step = x.clone(), wet, max(1, round(delay * RATE))
    for repeat in range(step, x.shape[1], step):
        if gain < 0.01:
            break
        y[:, repeat:] += gain * x[:, : x.shape[1] - repeat]
        gain *= feedback
    return y


def chorus(x: Tensor, rng: np.random.Generator, depth: float = 0.004, wet: float = 0.7) -> Tensor:
    """Add to each side a copy whose delay swings by `depth` seconds: wider, and never twice the same."""
    time = x.shape[1]
    stereo = x.expand(2, -1)
    t = torch.arange(time) / RATE
    out = []
    for side in stereo:
        swing = depth * (1 + torch.sin(2 * math.pi * rng.uniform(0.2, 1.2) * t + rng.uniform(0, 6.28)))
        at = (torch.arange(time) - swing * RATE).clamp(min=0)
        i = at.long().clamp(max=time - 2)
        out.append(side + wet * torch.lerp(side[i], side[i + 1], at - i))
    return torch.stack(out)


def _fast(size: int) -> int:
    """Round up to a length that transforms fast: 2ⁿ or 3 · 2ⁿ."""
    power: int = 2 ** math.ceil(math.log2(size))
    return power * 3 // 4 if power * 3 // 4 >= size else power


def _filter(x: Tensor, response: Tensor, size: int) -> Tensor:
    """Multiply the spectrum of `x` (channel, time), padded to `size`, with `response`."""
    y: Tensor = torch.fft.irfft(torch.fft.rfft(x, n=size) * response, n=size)
    return y[:, : x.shape[1]]
