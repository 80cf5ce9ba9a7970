"""How loud a song is, in LUFS: ITU-R BS.1770's integrated loudness, for songs of any length."""

from __future__ import annotations

from math import inf, log10, pi, tan
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Loudness", "loudness"]

N = TypeVar("N", int, Tensor)
Biquad = tuple[tuple[float, float, float], tuple[float, float, float]]  # numerator and denominator

_STEPS = 10  # a second: from one block to the next; a block has four
_ABSOLUTE, _RELATIVE = -70.0, -10.0  # the gates: in LUFS, and in LU below the mean of what is above -70
_SIDE, _LFE = 10**0.15, 0.0
# Weights of channels in the order of WAV and FLAC; all of other layouts count alike.
_WEIGHTS = {
    4: (1.0, 1.0, _SIDE, _SIDE),
    5: (1.0, 1.0, 1.0, _SIDE, _SIDE),
    6: (1.0, 1.0, 1.0, _LFE, _SIDE, _SIDE),
    7: (1.0, 1.0, 1.0, _LFE, 1.0, _SIDE, _SIDE),
    8: (1.0, 1.0, 1.0, _LFE, 1.0, 1.0, _SIDE, _SIDE),
}


class Loudness:
    r"""Integrated loudness of a stream: `process(block) ... integrated()`.

    Each channel goes through K-weighting, a shelf for the head's effect and a high-pass. Its energy in block `j` of
    400 ms, one every 100 ms, is `z[c, j]`, and the loudness of blocks

    .. math:: L = -0.691 + 10 \log_{10} \overline{\sum_c g_c \, z[c, j]}

    with `g = 1`, but 1.41 for loudspeakers at the sides and 0 for the subwoofer. The mean is over the blocks that are
    not silence: louder than -70 LUFS, and of those the ones less than 10 LU below the mean of them.

    The weighting is a product in the frequency domain, in float64, over stretches of fixed size that overlap by more
    than the filters' memory, so the result does not depend on how the song was cut into blocks.

    >>> meter = Loudness(rate=48000, channels=2)
    >>> tone = torch.sin(2 * pi * 997 / 48000 * torch.arange(96000))
    >>> meter.process(torch.stack([tone, torch.zeros(96000)]))
    >>> round(meter.integrated(), 2)
    -3.01
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.rate = rate
        self.weights = torch.tensor(_WEIGHTS.get(channels, (1.0,) * channels), dtype=torch.float64)
        self.size = 2 ** (rate - 1).bit_length()  # samples of a stretch, a second or more
        self.response = k_weighting(rate, self.size)
        self.memory = self.size // 4
        self.waiting = [torch.zeros(channels, self.memory, dtype=torch.float64)]  # begins with what was weighted before
        self.length = self.memory  # samples that wait
        self.received = 0
        self.energies = torch.zeros(1, dtype=torch.float64)  # of steps; the last one is not complete
        self.done = 0  # samples in them

    def process(self, block: Tensor) -> None:
        """Take the next samples, (channel, time)."""
        self.received += block.shape[-1]
        self.length += block.shape[-1]
        self.waiting.append(block.to("cpu", torch.float64))
        if self.length < self.size:
            return
        waiting = torch.cat(self.waiting, -1)
        while waiting.shape[-1] >= self.size:
            self._add(waiting[:, : self.size])
            waiting = waiting[:, self.size - self.memory :]
        self.waiting, self.length = [waiting.clone()], waiting.shape[-1]

    def integrated(self) -> float:
        """Say how loud all was that came so far, in LUFS; silence is -inf. A song below 400 ms counts as one block."""
        if not self.received:
            return -inf
        kept = self.energies.clone(), self.done  # more may come
        self._add(torch.cat(self.waiting, -1))
        energies, (self.energies, self.done) = self.energies, kept
        whole = self._step(self.received)  # steps that are complete
        if whole < 4:
            blocks = energies.sum()[None] / self.received
        else:
            bounds = torch.arange(whole + 1) * self.rate // _STEPS
            blocks = energies[:whole].unfold(0, 4, 1).sum(1) / (bounds[4:] - bounds[:-4])
        return gated(blocks)

    def _step(self, sample: N) -> N:
        """Say in which step a sample is: the first that ends behind it, at a multiple of rate / 10 rounded down."""
        return (_STEPS * sample + _STEPS - 1) // self.rate

    def _add(self, stretch: Tensor) -> None:
        """Weight a stretch (channel, time), and add the energy of what is new in it to that of its steps."""
        weighted = torch.fft.irfft(torch.fft.rfft(stretch, self.size) * self.response, self.size)
        new = weighted[:, self.memory : stretch.shape[-1]]
        energy = (self.weights[:, None] * new.square()).sum(0)  # (time,)
        step = self._step(torch.arange(self.done, self.done + len(energy)))
        more = self._step(self.done + len(energy)) + 1 - len(self.energies)
        self.energies = torch.nn.functional.pad(self.energies, (0, more)).index_add(0, step, energy)
        self.done += len(energy)


def loudness(audio: Tensor, rate: int) -> float:
    """Measure the integrated loudness of a whole signal (channel, time) in LUFS; silence is -inf."""
    meter = Loudness(rate, audio.shape[0])
    meter.process(audio)
    return meter.integrated()


def gated(energies: Tensor) -> float:
    """Turn the energies of blocks into a loudness, without the blocks that are too quiet to count."""
    loud = energies[energies > 10 ** ((_ABSOLUTE + 0.691) / 10)]
    if not len(loud):
        return -inf
    loud = loud[loud > loud.mean() * 10 ** (_RELATIVE / 10)]
    return -0.691 + 10 * log10(float(loud.mean()))


def k_weighting(rate: int, size: int) -> Tensor:
    """Compute the response of K-weighting at the `size // 2 + 1` frequencies of a transform of `size` samples.

    BS.1770 gives coefficients for 48 kHz. The analogue filters behind them are brought to any rate by the
    bilinear transform: at 48 kHz the coefficients are the standard's in all its digits.
    """
    z = torch.exp(-2j * pi * torch.arange(size // 2 + 1, dtype=torch.float64) / size)  # a delay of one sample
    response = torch.ones(size // 2 + 1, dtype=torch.complex128)
    for b, a in (shelf(rate), high_pass(rate)):
        response *= (b[0] + b[1] * z + b[2] * z**2) / (a[0] + a[1] * z + a[2] * z**2)
    return response


def shelf(rate: int) -> Biquad:
    """Compute the first filter: 4 dB more above 1.7 kHz, as a head that is in the way of sound makes it."""
    high, quality = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    middle = high**0.4996667741545416
    k = tan(pi * 1681.974450955533 / rate)
    a0 = 1 + k / quality + k**2
    b = (high + middle * k / quality + k**2, 2 * (k**2 - high), high - middle * k / quality + k**2)
    return (b[0] / a0, b[1] / a0, b[2] / a0), (1.0, 2 * (k**2 - 1) / a0, (1 - k / quality + k**2) / a0)


def high_pass(rate: int) -> Biquad:
    """Compute the second filter: nothing below 38 Hz."""
    quality = 0.5003270373238773
    k = tan(pi * 38.13547087602444 / rate)
    a0 = 1 + k / quality + k**2
    return (1.0, -2.0, 1.0), (1.0, 2 * (k**2 - 1) / a0, (1 - k / quality + k**2) / a0)
