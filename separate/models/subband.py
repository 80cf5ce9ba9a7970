"""What the models of subbands have in common.

Liu, Xie, Wu and Yang, "Channel-wise subband input for better voice and accompaniment separation on high resolution
music" (2020).

    song -> filter bank -> STFT of each subband -> one net a source -> masks -> inverse STFT -> inverse filter bank

The subbands of all channels are the channels of what the nets see, so that a convolution has weights of its own for
each part of the spectrum, and sees a K-th of the bins. The masks are the real and imaginary parts' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.dsp.filterbank import ANGLES, FilterBank
from separate.dsp.stft import STFT
from separate.models.layers import in_stereo
from separate.models.settings import check_chunk, check_least, check_sources

__all__ = ["Subband", "SubbandConfig"]

PEAK = 0.8  # of what the nets see: two sources of 0.4 each in training
FLOOR = 1e-8  # below this peak a song is not made any louder


@dataclass(frozen=True)
class SubbandConfig:
    """What all models of subbands are told."""

    sources: tuple[str, ...] = ("vocals", "accompaniment")
    sample_rate: int = 44100
    bands: int = 8
    n_fft: int = 2048  # of the whole band; a subband's is a K-th of it
    hop: int = 352
    segment: float = 11.35  # seconds of a chunk: so long that at the default overlap they start on `Subband.grid`
    context: float = 1.0  # of which so many at either end are only surroundings
    level: float = 1.0  # seconds over which a song's level is measured

    def __post_init__(self) -> None:
        check_sources(self.sources)
        check_least(self, {"sample_rate": 1})
        if self.bands not in (1, *ANGLES):
            raise ValueError(f"bands must be one of 1, {', '.join(map(str, ANGLES))}, got {self.bands}")
        n_fft, hop = self.n_fft // self.bands, self.hop // self.bands
        if self.n_fft % (2 * self.bands) or self.hop % self.bands or n_fft < 4 or not 1 <= hop <= n_fft // 4:
            raise ValueError(
                f"n_fft = {self.n_fft} and hop = {self.hop} must split into {self.bands} bands, "
                "n_fft into even parts, and hop be at most a quarter of n_fft"
            )
        check_chunk(self.segment, self.context)
        if self.level < 0:
            raise ValueError(f"level must be a time of at least 0 s, got {self.level}")


class Subband(nn.Module):
    """A model of subbands with the nets of its sources: (batch, 4K, bin, frame) -> the same, masks before the sigmoid.

    `halvings` is how often the nets halve the number of frames.
    Channels are ordered (channel · K + band) · 2 + (0 for the real part, 1 for the imaginary). Every net hears two
    audio channels: a mono song is heard on both.
    """

    sums = False  # each source has a net of its own

    def __init__(self, config: SubbandConfig, nets: Iterator[nn.Module], halvings: int) -> None:
        super().__init__()
        self.config = config
        self.grid = config.hop * 2**halvings  # samples: on it, chunks see the song's frames at the coarsest scale too
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.bank = FilterBank(config.bands)
        self.stft = STFT(config.n_fft // config.bands, config.hop // config.bands, power=0.5)
        self.nets = nn.ModuleList(nets)

    def forward(self, mix: Tensor) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time)."""
        return in_stereo(self.separated, mix)

    def separated(self, mix: Tensor) -> Tensor:
        """Separate two channels: (batch, 2, time) -> (batch, source, 2, time)."""
        mixture = self.spectra(mix)  # (batch, 4K, bin, frame)
        heard = mixture * self.gain(mix, mixture.shape[-1])
        heard = heard.contiguous(memory_format=torch.channels_last)  # convolutions are faster then
        return torch.stack([self.audio(self.mask(net, heard) * mixture, mix.shape[2]) for net in self.nets], 1)

    def mask(self, net: nn.Module, heard: Tensor) -> Tensor:
        """Say how much of every number is a source's: (batch, 4K, bin, frame) -> the same."""
        mask: Tensor = net(heard)
        return mask.to(heard.dtype).sigmoid()

    def spectra(self, mix: Tensor) -> Tensor:
        """Transform the subbands: (batch, channel, time) -> (batch, channel · K · 2, bin, frame)."""
        spec = self.stft(self.bank(mix))  # (batch, channel, band, bin, frame)
        return torch.stack([spec.real, spec.imag], 3).flatten(1, 3)

    def audio(self, spectra: Tensor, length: int) -> Tensor:
        """Transform back: (batch, channel · K · 2, bin, frame) -> (batch, channel, time)."""
        parts = spectra.reshape(
            len(spectra), -1, self.config.bands, 2, *spectra.shape[2:]
        )  # (batch, channel, band, 2, bin, frame)
        spec = torch.complex(parts[:, :, :, 0], parts[:, :, :, 1])
        return self.bank.inverse(self.stft.inverse(spec, self.bank.samples(length)), length)

    def gain(self, mix: Tensor, frames: int) -> Tensor:
        """Find the gain at which the nets hear each frame: (batch, channel, time) -> (batch, 1, 1, frame).

        Its authors bring a whole song to a peak of 0.8. A chunk does not know the song, and brought to that peak by
        itself it would be heard at another level than its neighbours. So the level here is that of the surroundings:
        the highest peak in the `level` seconds around a frame, and of that the geometric mean over as long. So a chunk
        with that much context finds what the whole song finds, a song at half the level gives stems at half the level,
        and the gain moves slowly. The masks apply to the song as it is: there is nothing to restore.
        """
        reach = round(self.config.level * self.sample_rate / self.config.hop)  # frames, to either side together
        window = 2 * (reach // 2) + 1, 1, reach // 2  # its length, step, and padding
        peak = mix.detach().abs().amax(1)  # (batch, time)
        peak = F.pad(peak, (0, frames * self.config.hop - mix.shape[-1]))
        peak = F.max_pool1d(F.max_pool1d(peak, self.config.hop), *window)  # (batch, frame)
        level = F.avg_pool1d(peak.clamp_min(FLOOR).log(), *window, count_include_pad=False)
        return (PEAK / level.exp())[:, None, None]
