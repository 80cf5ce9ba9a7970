"""What mixing desks and microphones do to sound, one function each.

Signals are float tensors (channel, time) at RATE; what is left to chance comes from a numpy generator.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from separate.training.config import Data

__all__ = [
    "chorus",
    "codec",
    "compress",
    "drive",
    "echo",
    "equalise",
    "formants",
    "level",
    "pan",
    "pitch",
    "random_equaliser",
    "reverb",
    "sometimes_room",
    "speed",
    "stretch",
    "vary",
]

RATE = 44100
SHIFT = 2.0  # semitones: of the pitch of a song, at most


def level(x: Tensor, rms: float = 0.1) -> Tensor:
    """Scale `x` so that the RMS of its active part, blocks within 30 dB of the loudest, is `rms`."""
    power = F.avg_pool1d(x.square().mean(0, keepdim=True), 4096, ceil_mode=True)[0]
    active = power[power > 1e-3 * power.max()]
    return x * (rms / active.mean().sqrt()) if len(active) else x


def speed(x: Tensor, ratio: float) -> Tensor:
    """Play `x` `ratio` times as fast, which moves pitch and formants alike; cubic interpolation."""
    time = x.shape[1]
    at = torch.arange(max(1, math.floor(time / ratio)), dtype=torch.float64, device=x.device) * ratio
    i = at.long().clamp(max=time - 1)
    t = (at - i).float()
    p = F.pad(x, (1, 2))
    a, b, c, d = p[:, i], p[:, i + 1], p[:, i + 2], p[:, i + 3]
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def stretch(x: Tensor, ratio: float) -> Tensor:
    """Play `x` `ratio` times as fast at the same pitch, with a phase vocoder whose channels keep their places.

    Every bin turns on by what it turns in one hop of the original; the phases of all channels follow their sum's.
    """
    spec = _spectra(x)  # (channel, bin, frame)
    if spec.shape[2] < 2:  # shorter than a hop, and than anybody hears
        return x
    at = torch.arange(0, spec.shape[2] - 1, ratio, dtype=torch.float64)
    left, share = at.long(), (at % 1).float()
    sum_ = spec.sum(0)
    advance = torch.full((sum_.shape[0],), 2 * math.pi * _HOP / _FRAME).mul_(torch.arange(sum_.shape[0]))[:, None]
    turn = (sum_[:, left + 1] * sum_[:, left].conj()).angle() - advance
    turn = turn - 2 * math.pi * torch.round(turn / (2 * math.pi)) + advance  # (bin, frame)
    phase = torch.cat([sum_[:, :1].angle(), turn[:, :-1]], 1).double().cumsum(1).float()
    apart = spec * torch.polar(torch.ones(()), -sum_.angle())  # what channels do not share
    y = torch.lerp(spec.abs()[:, :, left], spec.abs()[:, :, left + 1], share)
    y = y * torch.polar(torch.ones(()), phase) * torch.polar(torch.ones(()), apart.angle())[:, :, left]
    return _waves(y, round(x.shape[1] / ratio))


def pitch(x: Tensor, semitones: float) -> Tensor:
    """Move the pitch, formants included, at the same speed."""
    ratio = 2 ** (semitones / 12)
    return F.pad(speed(stretch(x, 1 / ratio), ratio), (0, x.shape[1]))[:, : x.shape[1]]


def formants(x: Tensor, ratio: float) -> Tensor:
    """Move the formants, the smooth envelope of the spectrum, to `ratio` times their frequencies; the pitch stays.

    The envelope is the cepstrum below 1.5 ms, which is shorter than the periods of a singing voice.
    """
    spec = _spectra(x)
    cepstrum = torch.fft.irfft(spec.abs().clamp(min=1e-4).log(), n=_FRAME, dim=1)
    short = round(0.0015 * RATE)
    cepstrum[:, short:-short] = 0
    envelope = torch.fft.rfft(cepstrum, dim=1).real  # (channel, bin, frame), log
    at = (torch.arange(envelope.shape[1]) / ratio).clamp(max=envelope.shape[1] - 1.001)
    moved = torch.lerp(envelope[:, at.long()], envelope[:, at.long() + 1], at.frac()[:, None])
    return _waves(spec * (moved - envelope).clamp(-4, 4).exp(), x.shape[1])  # by 35 dB at most


def codec(x: Tensor, kind: str, quality: float) -> Tensor:
    """Encode `x` as "mp3" or "opus" at a quality from 0 (worst) to 1, and decode it again."""
    container, subtype = {"mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}[kind]
    rate = RATE if kind == "mp3" else 48000
    y = x if rate == RATE else speed(x, RATE / rate)
    file = io.BytesIO()
    peak = float(y.abs().amax().clamp(min=1e-6))
    with soundfile.SoundFile(
        file, "w", rate, len(y), subtype, format=container, compression_level=0.95 * (1 - quality)
    ) as out:
        for block in torch.split(y / peak * 0.9, 65536, 1):
            out.write(block.T.numpy())
    file.seek(0)
    decoded = torch.from_numpy(soundfile.read(file, dtype="float32", always_2d=True)[0]).T * (peak / 0.9)
    decoded = decoded if rate == RATE else speed(decoded.contiguous(), rate / RATE)
    return _aligned(decoded, x)


def vary(stems: Mapping[str, Tensor], rng: np.random.Generator, data: Data) -> dict[str, Tensor]:
    """Alter a song: pitch, time and coding of all stems alike, rooms and compressors of single ones."""
    semitones = rng.uniform(-SHIFT, SHIFT) if rng.random() < data.pitch else 0.0
    ratio = rng.uniform(0.88, 1.12) if rng.random() < data.time else 1.0
    kind, quality = (str(rng.choice(["mp3", "opus"])) if rng.random() < data.codec else ""), rng.uniform(0, 0.6)
    altered = {}
    for name, x in stems.items():
        y = pitch(x, semitones) if semitones and name != "drums" else x
        y = stretch(y, ratio) if ratio != 1 else y
        if name == "vocals" and rng.random() < data.formants:
            y = formants(y, rng.uniform(0.85, 1.18))
        if rng.random() < data.compress:
            y = compress(level(y), rng.uniform(-26, -16), rng.uniform(2, 6)) * float(y.std() / 0.1)
        if rng.random() < data.reverb:
            y = reverb(y, rng, rng.uniform(0.2, 1.5), rng.uniform(0.02, 0.2))
        altered[name] = codec(y, kind, quality) if kind else y
    return altered


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


_FRAME, _HOP = 2048, 512  # samples


def _spectra(x: Tensor) -> Tensor:
    return torch.stft(x, _FRAME, _HOP, window=torch.hann_window(_FRAME), pad_mode="constant", return_complex=True)


def _waves(spec: Tensor, length: int) -> Tensor:
    return torch.istft(spec, _FRAME, _HOP, window=torch.hann_window(_FRAME), length=length)


def _aligned(x: Tensor, like: Tensor) -> Tensor:
    """Undo the delay of `x`, and give it the length of `like`."""
    size = _fast(x.shape[1] + like.shape[1])
    product = torch.fft.rfft(x.mean(0), n=size) * torch.fft.rfft(like.mean(0), n=size).conj()
    reach = 4096  # samples: no codec is later
    found = torch.fft.irfft(product, n=size)
    delay = int(torch.cat([found[-reach:], found[:reach]]).argmax()) - reach
    x = x[:, delay:] if delay > 0 else F.pad(x, (-delay, 0))
    return F.pad(x, (0, like.shape[1]))[:, : like.shape[1]]
