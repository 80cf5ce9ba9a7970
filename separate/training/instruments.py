"""Instruments: one-shots of a sample library, played at any pitch, and synthesizers made of wavetables."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from separate.training.augment import RATE, speed

__all__ = ["Instrument", "Shot", "play", "synthesizer"]

_RELEASE = 0.08  # seconds that a note takes to fade once it is let go


@dataclass(frozen=True)
class Shot:
    """One recorded note or hit."""

    audio: Tensor  # (channel, time)
    pitch: int  # MIDI; of no meaning for drums
    loudness: float  # RMS


@dataclass(frozen=True)
class Instrument:
    """The notes of one instrument."""

    name: str
    shots: tuple[Shot, ...]

    def note(self, pitch: int, length: float, velocity: float, rng: np.random.Generator) -> Tensor:
        """Play a note: of the shots nearest in pitch, one about as loud as asked; (channel, time)."""
        distance = min(abs(shot.pitch - pitch) for shot in self.shots)
        near = sorted((s for s in self.shots if abs(s.pitch - pitch) == distance), key=lambda s: s.loudness)
        shot = near[min(len(near) - 1, int(len(near) * min(1.0, max(0.0, velocity + rng.uniform(-0.1, 0.1)))))]
        cents = rng.normal(0, 3)
        ratio = 2 ** ((pitch - shot.pitch + cents / 100) / 12)
        keep = int((length + _RELEASE) * RATE * ratio) + 8  # before the change of speed
        x = shot.audio[:, :keep]
        x = speed(x, ratio) * (velocity**1.2 * 0.1 / max(shot.loudness, 1e-4))
        return faded(x, length)


def faded(x: Tensor, length: float) -> Tensor:
    """Let go of a note after `length` seconds."""
    release = int(_RELEASE * RATE)
    end = int(length * RATE) + release
    x = x[:, :end].clone()
    fade = min(release, x.shape[1])
    x[:, -fade:] *= torch.linspace(1, 0, fade)
    return x


def play(out: Tensor, x: Tensor, start: float) -> None:
    """Add the sound `x` to `out` (2, time) at `start` seconds; what hangs over the end is cut."""
    at = round(start * RATE)
    if 0 <= at < out.shape[1]:
        part = x[:, : out.shape[1] - at]
        out[:, at : at + part.shape[1]] += part


def synthesizer(rng: np.random.Generator, low: int, high: int, pure: float = 0.0) -> Instrument:
    """Invent a synthesizer for the pitches `low` to `high`: waveform, filter sweep, unison and envelope by chance.

    With odds of `pure` it is little more than a sine.
    """
    slope = rng.uniform(2.5, 5.0) if rng.random() < pure else rng.uniform(0.6, 2.0)
    even = rng.choice([1.0, 1.0, 0.5, 0.1])  # 0.1: hollow as a square wave
    dark = rng.uniform(1.5, 4.0)  # what the closed filter adds to the slope
    sweep = float(np.exp(rng.uniform(np.log(0.05), np.log(2.0))))
    attack = float(np.exp(rng.uniform(np.log(0.002), np.log(0.25))))
    decay = rng.choice([0.15, 0.4, 1.0, 1e3])
    voices = int(rng.choice([1, 1, 2, 3, 5]))
    detune = rng.uniform(3, 18)  # cents
    t = torch.arange(3 * RATE) / RATE
    envelope = (1 - torch.exp(-t / attack)) * torch.exp(-t / decay)
    filter_ = torch.exp(-t / sweep)
    shots = []
    for pitch in range(low, high + 4, 4):
        f = 440 * 2 ** ((pitch - 69) / 12)
        n = np.arange(1, max(2, int(15000 / f)))
        bright = n**-slope * np.where(n % 2, 1, even)
        x = torch.zeros(2, len(t))
        for voice in range(voices):
            spread = 0.0 if voices == 1 else 2 * voice / (voices - 1) - 1
            phase = (t * f * 2 ** (spread * detune / 1200) + rng.uniform()) % 1.0
            tone = filter_ * _cycle(bright, phase) + (1 - filter_) * _cycle(bright * n ** -(dark - 1), phase)
            x += tone * torch.tensor([[1 - 0.7 * spread], [1 + 0.7 * spread]])
        x *= envelope
        shots.append(Shot(x, pitch, float(x.square().mean().sqrt())))
    return Instrument("synthesizer", tuple(shots))


def _cycle(amplitudes: np.ndarray, phase: Tensor) -> Tensor:
    """Read the waveform with these harmonics at `phase` (in cycles)."""
    size = max(64, 2 ** math.ceil(math.log2(8 * len(amplitudes) + 1)))
    spectrum = np.zeros(size // 2 + 1, dtype=np.complex64)
    spectrum[1 : len(amplitudes) + 1] = -1j * amplitudes
    table = torch.from_numpy(np.fft.irfft(spectrum).astype(np.float32)) * size
    table = torch.cat([table, table[:1]])
    at = phase * size
    i = at.long().clamp(max=size - 1)
    return torch.lerp(table[i], table[i + 1], at - i)
