"""A song as K signals of a K-th of its rate, one a band of its spectrum, and back again without a loss.

The filters of all bands are one low-pass, the prototype p, moved up by cosines (Malvar 1990; Koilpillai and
Vaidyanathan 1992):

    q_k[i] = √(2/K) p[i] cos(π/K (k + 1/2) (i − (N − 1)/2) + (−1)^k π/4),    N = 64 taps

Moved by multiples of K, such filters are orthonormal exactly if the polyphase components p[r + 2Kn] and
p[K + r + 2Kn] are what a lattice of rotations makes of them: every lattice does, whatever its angles. So the bank loses
nothing by construction, and the angles below are free for the other wish, that bands keep apart:
`benchmarks/design_filterbank.py` found them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ANGLES", "FilterBank", "filters", "prototype"]

ANGLES: dict[int, tuple[tuple[float, ...], ...]] = {
    2: (
        (
            1.882047,
            2.099203,
            1.473622,
            1.285736,
            2.131193,
            1.293273,
            1.230151,
            2.028454,
            1.390421,
            1.464149,
            1.691559,
            1.941136,
            1.529578,
            1.212358,
            1.82681,
            1.438386,
        ),
    ),
    4: (
        (1.61983, 1.117969, 1.553436, 2.163431, 2.678693, 1.494457, 0.920579, 1.802267),
        (1.721755, 1.64359, 2.405917, 1.373912, 1.230731, 2.167608, 1.611415, 1.195898),
    ),
    8: (
        (1.845617, 2.007047, 1.737832, 1.458738),
        (1.849414, 1.872494, 1.826377, 1.506608),
        (1.961875, 1.868281, 1.820643, 1.415431),
        (2.060863, 1.862901, 1.833905, 1.334653),
    ),
}  # band: (band/2, stage)


def prototype(angles: Tensor) -> Tensor:
    """Make the low-pass of a bank from the rotations of its lattices: (band/2, stage) -> (tap,), of energy band/2."""
    a, b = angles[:, :1].cos(), angles[:, :1].sin()  # both (band/2, stages so far)
    for angle in angles[:, 1:].T:
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        a, b = F.pad(a, (0, 1)), F.pad(b, (1, 0))  # b comes one step later
        a, b = cos * a - sin * b, sin * a + cos * b
    rows = [a, b.flip(0, 1), b, a.flip(0, 1)]  # the second half mirrors the first: p is symmetric
    return torch.cat(rows).T.flatten()


def filters(angles: Tensor) -> Tensor:
    """Move the prototype up to every band: (band/2, stage) -> (band, tap), orthonormal."""
    p = prototype(angles)
    bands = 2 * angles.shape[0]
    k = torch.arange(bands, dtype=p.dtype)[:, None]
    centre = torch.arange(len(p), dtype=p.dtype) - (len(p) - 1) / 2
    phase = math.pi / 4 * (1 - 2 * (k % 2))
    return math.sqrt(2 / bands) * p * torch.cos(math.pi / bands * (k + 0.5) * centre + phase)


class FilterBank(nn.Module):
    r"""The bank of `bands` = K filters: a waveform ↔ its subbands, the lowest first.

    .. math:: s_k[m] = \frac{1}{K} \sum_{i=0}^{N-1} f_k[i] \, x[mK + K - 1 - i]
    .. math:: x[tK + p] = K \sum_k \sum_{j=0}^{N/K-1} h_k[jK + p] \, s_k[t + N/K - 1 - j]

    with f = √K q, so that a subband has the level that its band has in the song, and h = q / √K in reverse. There is no
    delay: sample t of the subbands belongs to samples tK to tK + K − 1 of the song. Behind its end they ring for
    N/K − 1 more samples, without which its last ones could not be recovered. One band is the waveform itself.

    The filters are part of a checkpoint, as a net knows only the bands that it was trained on. Both directions compute
    in float32, or in float64 where that is what comes in.

    >>> bank = FilterBank(bands=8)
    >>> audio = torch.randn(2, 44100)
    >>> subbands = bank(audio)
    >>> tuple(subbands.shape)
    (2, 8, 5520)
    >>> torch.allclose(bank.inverse(subbands, length=44100), audio, atol=1e-5)
    True
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        if bands != 1 and bands not in ANGLES:
            raise ValueError(f"there are filter banks of 1, {', '.join(map(str, ANGLES))} bands, not {bands}")
        q = torch.ones(1, 1) if bands == 1 else filters(torch.tensor(ANGLES[bands], dtype=torch.float64))
        self.bands = bands
        self.register_buffer("analysis", (q * math.sqrt(bands)).float())  # f, (band, tap)
        self.register_buffer("synthesis", (q.flip(1) / math.sqrt(bands)).float())  # h, (band, tap)

    def samples(self, length: int) -> int:
        """Count the samples of each subband of a signal of `length` samples."""
        return -(-length // self.bands) + self.analysis.shape[1] // self.bands - 1

    def forward(self, audio: Tensor) -> Tensor:
        """Split waveforms (..., time) into subbands (..., band, time/K)."""
        length, taps = audio.shape[-1], self.analysis.shape[1]
        audio = audio if audio.dtype == torch.float64 else audio.float()
        before = taps - self.bands
        with torch.autocast(audio.device.type, enabled=False):
            x = F.pad(audio.reshape(-1, 1, length), (before, before - length % -self.bands))
            f = self.analysis.to(x.dtype).flip(1).unsqueeze(1) / self.bands
            subbands = F.conv1d(x, f, stride=self.bands)  # (..., band, time/K)
        return subbands.reshape(*audio.shape[:-1], *subbands.shape[1:])

    def inverse(self, subbands: Tensor, length: int) -> Tensor:
        """Join subbands (..., band, time/K) into waveforms (..., time) of `length` samples."""
        if subbands.shape[-2:] != (self.bands, self.samples(length)):
            bands, samples = subbands.shape[-2:]
            raise ValueError(
                f"{length} samples have {self.bands} subbands of {self.samples(length)} samples, "
                f"but these are {bands} of {samples}"
            )
        subbands = subbands if subbands.dtype == torch.float64 else subbands.float()
        with torch.autocast(subbands.device.type, enabled=False):
            h = self.synthesis.to(subbands.dtype).unsqueeze(1) * self.bands
            audio = F.conv_transpose1d(subbands.reshape(-1, *subbands.shape[-2:]), h, stride=self.bands)
        before = self.synthesis.shape[1] - self.bands
        return audio[..., before : before + length].reshape(*subbands.shape[:-2], length)
