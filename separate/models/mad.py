"""The Masker and Denoiser of Mimilakis et al. (ICASSP 2018), which singles out the singing voice.

Method: "Monaural Singing Voice Separation with Skip-Filtering Connections and Recurrent Inference of Time-Frequency
Mask". A masker looks at half a second and says a mask for the voice; a denoiser cleans up what it let through.

    magnitudes -> sequences -> GRU, both ways, + its input -> GRU, again and again until it settles -> mask
    mask × magnitudes -> two linear layers -> × their input -> Griffin-Lim -> voice;   mixture − voice -> the rest

The net sees one audio channel at a time. Inside, everything is (frame, sequence, bin): sequences, of all channels and
songs alike, are one batch, and what becomes of one does not depend on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.dsp.griffinlim import griffin_lim
from separate.dsp.parallel import side_by_side
from separate.dsp.stft import STFT, magnitude
from separate.models import recurrent
from separate.models.inference import inferring
from separate.models.layers import Bands
from separate.models.settings import check_choices, check_frames, check_least
from separate.models.through_time import through_time

__all__ = ["PRESETS", "HammingSTFT", "MaD", "MaDConfig"]

SEQUENCES = 16  # that a thread hears at once, at least: with fewer, it waits for the weights


@dataclass(frozen=True)
class MaDConfig:
    """The paper's model, its GRU-RIS-L, unless told otherwise."""

    sources: tuple[str, ...] = ("vocals", "accompaniment")  # what the net is trained for, and the rest of the song
    sample_rate: int = 44100
    n_fft: int = 4096
    window: int = 2049  # samples of a frame; the others up to n_fft are zeros
    hop: int = 384
    # Seconds of a chunk and of its surroundings. At an overlap of 0.1 chunks then start where sequences do, 960 frames
    # apart, and the surroundings cover all that a sequence hears: a chunk says of its middle what the whole song says.
    segment: float = 10.6
    context: float = 0.5
    sequence: int = 60  # frames that the encoder hears at a time
    margin: int = 10  # of which so many at either end are only surroundings
    bins: int = 744  # the encoder hears bins below this one; its GRUs are as wide, the decoder's twice
    bands: int = 0  # averaged to so many bands, which the mask and the denoiser have too; 0: no averaging, all bins
    hidden: int = 1024  # units of the denoiser
    residual: str = "fed-back"  # "fed-back", "outside" or "aligned": see MaD.encode
    iterations: int = 10  # of the recurrent inference, at most; 0: none
    tolerance: float = 1e-3  # a sequence whose mean squared change is less has settled
    griffin_lim: int = 10  # iterations; 0: the mixture's phase

    def __post_init__(self) -> None:
        check_frames(self.sample_rate, self.n_fft, self.hop, self.segment, self.context)
        check_least(self, _LEAST)
        if len(self.sources) != 2 or self.sources[0] == self.sources[1]:
            raise ValueError(f"sources must name two, what to separate and the rest, got {self.sources!r}")
        if not 4 * self.hop <= self.window <= self.n_fft:
            raise ValueError(f"window = {self.window} must be from four hops, {4 * self.hop}, to n_fft, {self.n_fft}")
        if self.bins > self.n_fft // 2 + 1 or self.bands == 1:
            raise ValueError(f"bins = {self.bins} and bands = {self.bands} must fit {self.n_fft // 2 + 1} bins")
        if self.sequence <= 2 * self.margin:
            raise ValueError(f"a margin of {self.margin} at either end fills a sequence of {self.sequence} frames")
        check_choices(self, _CHOICES)


_CHOICES = {"residual": ("fed-back", "outside", "aligned")}
_LEAST = dict.fromkeys(("bins", "hidden"), 1) | dict.fromkeys(
    ("margin", "bands", "iterations", "tolerance", "griffin_lim"), 0
)

# The paper's variants: what each changes of MaDConfig.
PRESETS: dict[str, dict[str, Any]] = {
    "gru-nri": {"iterations": 0},
    "gru-ris-s": {"iterations": 3, "tolerance": 1e-2},
    "gru-ris-l": {"iterations": 10, "tolerance": 1e-3},
}


class HammingSTFT(STFT):
    r"""The paper's Fourier transform: a symmetric Hamming window in a longer frame of zeros, silence around the song.

    .. math:: X[k, m] = \frac{1}{\sqrt N} \sum_{n=-W/2}^{W/2} w[n] \, x[m H + n - d] \, e^{-2 \pi i k n / N}

    With :math:`d = -\lfloor W/2 \rfloor \bmod H`, as if the least multiple of the hop that is half a window or more
    were added as zeros at both ends: the window always covers whole hops there. The inverse is STFT's.
    """

    def __init__(self, n_fft: int, hop: int, window: int) -> None:
        super().__init__(n_fft, hop)
        self.lead = -(window // 2) % hop  # samples from the middle of the first frame to the song
        before = n_fft // 2 - window // 2
        hamming = torch.hamming_window(window, periodic=False, dtype=torch.float64) / n_fft**0.5
        self.register_buffer("window", F.pad(hamming, (before, n_fft - window - before)).float(), persistent=False)

    def frames(self, length: int) -> int:
        """Count the frames of a signal of `length` samples: the last one's middle is `lead` behind its end or more."""
        return 1 - (1 - length - 2 * self.lead) // self.hop

    def forward(self, audio: Tensor) -> Tensor:
        """Transform waveforms (..., time) into complex spectrograms (..., bin, frame)."""
        length = audio.shape[-1]
        audio = audio.to(torch.promote_types(audio.dtype, torch.float32))
        total = self.n_fft + (self.frames(length) - 1) * self.hop
        before = self.n_fft // 2 + self.lead
        with torch.autocast(audio.device.type, enabled=False):
            padded = F.pad(audio, (before, total - before - length)).reshape(-1, total)
            spec = self._transform(padded)
        return spec.reshape(*audio.shape[:-1], *spec.shape[-2:])

    def inverse(self, spec: Tensor, length: int) -> Tensor:
        """Transform complex spectrograms (..., bin, frame) back into waveforms (..., time) of `length` samples."""
        spec = spec.to(torch.promote_types(spec.dtype, torch.complex64))
        with torch.autocast(spec.device.type, enabled=False):
            audio = self._overlap_add(spec.reshape(-1, *spec.shape[-2:]))
        return audio[:, self.n_fft // 2 + self.lead :][:, :length].reshape(*spec.shape[:-2], length)

    def _window(self, like: Tensor) -> Tensor:
        return self.window.to(like.dtype)


def recur(gru: nn.GRU, x: Tensor, fed_back: bool = False) -> Tensor:
    """Run a GRU that starts at zero, step by step: (frame, sequence, inputs) -> (frame, sequence, hidden).

    If its input is fed back, then sₜ = GRU(xₜ, sₜ₋₁) + xₜ is the output and the next step's state; else, GRU(xₜ, sₜ₋₁).
    Under `torch.autocast` products are computed in lower precision, but not the state.
    """
    return recurrent.recur(gru, x, fed_back) if inferring(x) else through_time(gru, x, fed_back=fed_back)


class MaD(nn.Module):
    """The whole model, from mixture to voice and accompaniment."""

    def __init__(self, config: MaDConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.sums = True
        self.grid = config.hop * (config.sequence - 2 * config.margin)  # samples: where sequences start
        total = config.n_fft // 2 + 1
        self.stft = HammingSTFT(config.n_fft, config.hop, config.window)
        self.bands = Bands(total, config.bins, config.bands) if config.bands else None
        self.heard, width = config.bands or config.bins, config.bands or total
        self.ahead = nn.GRU(self.heard, self.heard)
        self.back = nn.GRU(self.heard, self.heard)
        self.decoder = nn.GRU(2 * self.heard, 2 * self.heard)
        self.mask = nn.Linear(2 * self.heard, width)
        self.denoiser_enc = nn.Linear(width, config.hidden)
        self.denoiser_dec = nn.Linear(config.hidden, width)

    def initialise(self) -> None:
        """Draw the weights as the paper does, for training: orthogonal from state to state, else Glorot normal."""
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                nn.init.zeros_(weight)
            elif "weight_hh" in name:
                nn.init.orthogonal_(weight)
            else:
                nn.init.xavier_normal_(weight)

    def forward(self, mix: Tensor) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time)."""
        mixture = self.stft(mix)  # (batch, channel, bin, frame)
        songs = zip(self.estimate(magnitude(mixture)), mixture, strict=True)  # one at a time: phases take most memory
        length, iterations = mix.shape[-1], self.config.griffin_lim
        voice = torch.stack([griffin_lim(m, x, self.stft, length, iterations) for m, x in songs])
        return torch.stack([voice, mix - voice], 1)

    def estimate(self, mixture: Tensor) -> Tensor:
        """Estimate the voice's magnitudes: (batch, channel, bin, frame) -> (batch, channel, bin, frame)."""
        m = mixture.flatten(0, 1)  # (batch · channel, bin, frame)
        m = self.bands.compress(m) if self.bands else m
        mask, gain = self.apart(self.split(m))
        share = self.join((mask * gain).to(m.dtype), m)  # (batch · channel, bin or band, frame)
        return (self.bands.expand(share) if self.bands else share).view_as(mixture) * mixture

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layers, for inference on a processor with some sequences in each thread: none hears another.

        (frame, sequence, bin or band) -> twice (frame without margins, sequence, bin or band).
        """
        if not inferring(x):
            return self.masks(x)
        count = min(torch.get_num_threads(), -(-x.shape[1] // SEQUENCES))
        masks, gains = zip(*side_by_side(self.masks, x.chunk(count, 1)), strict=True)
        return torch.cat(masks, 1), torch.cat(gains, 1)

    def split(self, m: Tensor) -> Tensor:
        """Cut spectrograms into overlapping sequences, with silence around them so that no frame is lost.

        (item, bin, frame) -> (frame of a sequence, item · sequence, bin).
        """
        size, margin = self.config.sequence, self.config.margin
        step = size - 2 * margin
        after = margin + -m.shape[2] % step
        padded = F.pad(m.transpose(1, 2), (0, 0, margin, after))  # (item, frame, bin)
        return padded.unfold(1, size, step).permute(3, 0, 1, 2).flatten(1, 2)

    def join(self, y: Tensor, m: Tensor) -> Tensor:
        """Put what was said of the sequences of `m` back together.

        (frame without margins, item · sequence, bin), (item, bin, frame) -> (item, bin, frame).
        """
        y = y.view(len(y), len(m), -1, y.shape[2])  # (frame of a sequence, item, sequence, bin)
        return y.permute(1, 2, 0, 3).flatten(1, 2)[:, : m.shape[2]].transpose(1, 2)

    def magnitudes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate what training judges of sequences of magnitudes: the masker's voice and the denoiser's.

        (frame, sequence, bin or band) -> twice (frame without margins, sequence, bin or band).
        """
        mask, gain = self.masks(x)
        masked = mask * self.inner(x)
        return masked, gain * masked

    def masks(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layers: the mask, and what the denoiser multiplies the masked magnitudes by.

        (frame, sequence, bin or band) -> twice (frame without margins, sequence, bin or band).
        """
        h = self.decode(self.encode(x[..., : self.heard]))  # (frame without margins, sequence, 2 · heard)
        mask = self.mask(h).relu_()
        return mask, self.denoiser_dec(self.denoiser_enc(mask * self.inner(x)).relu_()).relu_()

    def encode(self, x: Tensor) -> Tensor:
        """Hear both directions: (frame, sequence, heard) -> (frame without margins, sequence, 2 · heard).

        fed-back:  sₜ = GRU(xₜ, sₜ₋₁) + xₜ; the direction that starts at the end says its last frame first (the paper)
        outside:   sₜ = GRU(xₜ, sₜ₋₁), and xₜ is added to the output only
        aligned:   the same, and both directions say the same frame at the same time
        """
        fed_back = self.config.residual == "fed-back"
        turned = x.flip(0)
        ahead, back = recur(self.ahead, x, fed_back), recur(self.back, turned, fed_back)
        if not fed_back:
            ahead, back = ahead + x, back + turned
        if self.config.residual == "aligned":
            back = back.flip(0)
        return self.inner(torch.cat([ahead, back], 2))

    def decode(self, h: Tensor) -> Tensor:
        """Run the decoder, and on its own output again until a sequence settles: (frame, sequence, 2 · heard) -> same.

        Every sequence stops on its own, and those that have are not computed any more.
        """
        y = recur(self.decoder, h)
        going = torch.arange(y.shape[1], device=y.device)
        for _ in range(self.config.iterations):
            last = y[:, going]
            new = recur(self.decoder, last)
            y = y.index_copy(1, going, new)
            going = going[(new - last).square().mean((0, 2)) >= self.config.tolerance]
            if not len(going):
                break
        return y

    def inner(self, x: Tensor) -> Tensor:
        """Drop the margins: (frame, ...) -> (frame without margins, ...)."""
        return x[self.config.margin : len(x) - self.config.margin]
