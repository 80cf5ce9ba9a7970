"""The short-time Fourier transform and its inverse, for any length of at least one sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["STFT", "magnitude"]


class STFT(nn.Module):
    r"""Short-time Fourier transform with a periodic Hann window, or a power of it, centred frames and reflected edges.

    .. math:: X[k, m] = \sum_{n=0}^{N-1} w[n] \, x[m H + n - N/2] \, e^{-2 \pi i k n / N}

    with `N = n_fft`, `H = hop`, `w` the window and `x` continued beyond both ends by reflection. A signal of `length`
    samples has `1 + length // hop` frames of `n_fft // 2 + 1` bins. The inverse is the least-squares one,

    .. math:: x[n] = \sum_m w[n - m H] \, x_m[n - m H] \, / \, \sum_m w^2[n - m H]

    where `x_m` is the inverse Fourier transform of frame `m`; it gives back the very samples that went in.

    Both directions compute in float32, or in float64 where that is what comes in; half precision, `torch.autocast`
    included, is too coarse for a transform that is to be inverted.

    Args:
        n_fft: samples in a frame, an even number.
        hop: samples from one frame to the next, at most `n_fft // 4`. Wider hops leave the last samples of some
            lengths where every window is almost zero, and they could not be recovered.
        power: the exponent of the window; 0.5 gives the square root of the Hann window.

    >>> stft = STFT(n_fft=1024, hop=256)
    >>> audio = torch.randn(2, 44100)
    >>> spec = stft(audio)
    >>> tuple(spec.shape)
    (2, 513, 173)
    >>> torch.allclose(stft.inverse(spec, length=44100), audio, atol=1e-6)
    True
    """

    window: Tensor

    def __init__(self, n_fft: int = 4096, hop: int = 1024, power: float = 1.0) -> None:
        super().__init__()
        if not 4 <= n_fft <= 2**20 or n_fft % 2:
            raise ValueError(f"n_fft must be even and from 4 to {2**20}, not {n_fft}")
        if not 1 <= hop <= n_fft // 4:
            raise ValueError(f"hop must lie between 1 and n_fft // 4 = {n_fft // 4}, not {hop}")
        self.n_fft = n_fft
        self.hop = hop
        self.power = power
        self.register_buffer("window", torch.hann_window(n_fft) ** power, persistent=False)

    def frames(self, length: int) -> int:
        """Count the frames of a signal of `length` samples."""
        return 1 + length // self.hop

    def forward(self, audio: Tensor) -> Tensor:
        """Transform waveforms (..., time) into complex spectrograms (..., bin, frame)."""
        if audio.shape[-1] < 1:
            raise ValueError("a spectrogram needs at least one sample")
        if audio.dtype != torch.float64:
            audio = audio.float()
        with torch.autocast(audio.device.type, enabled=False):
            padded = _reflect(audio, self.n_fft // 2).reshape(-1, audio.shape[-1] + self.n_fft)
            spec = self._transform(padded)
        return spec.reshape(*audio.shape[:-1], *spec.shape[-2:])

    def inverse(self, spec: Tensor, length: int) -> Tensor:
        """Transform complex spectrograms (..., bin, frame) back into waveforms (..., time) of `length` samples."""
        if spec.shape[-2:] != (self.n_fft // 2 + 1, self.frames(length)):
            bins, frames = spec.shape[-2:]
            raise ValueError(
                f"{length} samples have {self.frames(length)} frames of {self.n_fft // 2 + 1} bins, "
                f"but this spectrogram has {frames} frames of {bins} bins"
            )
        if spec.dtype != torch.complex128:
            spec = spec.to(torch.complex64)
        with torch.autocast(spec.device.type, enabled=False):
            audio = self._overlap_add(spec.reshape(-1, *spec.shape[-2:]))
        audio = audio[:, self.n_fft // 2 :][:, :length]
        return audio.reshape(*spec.shape[:-2], length)

    def _transform(self, padded: Tensor) -> Tensor:
        """Window frames and transform them: (row, time) -> (row, bin, frame), frames one after the other in memory.

        On a processor a few at a time, for `torch.stft` first writes all windowed frames down, as much again as the
        spectrogram; the numbers are the very same.
        """
        window = self._window(padded)
        if padded.requires_grad or not padded.is_cpu:
            return torch.stft(padded, self.n_fft, self.hop, window=window, center=False, return_complex=True)
        frames = padded.unfold(1, self.n_fft, self.hop)  # (row, frame, sample)
        spec = padded.new_empty(*frames.shape[:2], self.n_fft // 2 + 1, dtype=padded.dtype.to_complex())
        step = max(1, 2**18 // self.n_fft)
        for row, out in zip(frames, spec, strict=True):
            for first in range(0, len(row), step):
                torch.fft.rfft(row[first : first + step] * window, out=out[first : first + step])
        return spec.mT

    def _overlap_add(self, spec: Tensor) -> Tensor:
        """Transform frames back, window and add them, over the sum of squared windows.

        (row, bin, frame) -> (row, time). A few frames at a time, which stay in the processor's cache: that is
        three times as fast as `torch.istft`, most of whose time goes into turning a whole spectrogram around in memory.
        """
        rows, _, frames = spec.shape
        hops = -(-self.n_fft // self.hop)  # in a frame
        window = self._window(spec.real)
        audio = window.new_zeros(rows, frames + hops, self.hop)
        weight = window.new_zeros(frames + hops, self.hop)
        parts = [(hop, w) for hop, w in enumerate(torch.split(window, self.hop)) if bool(w.any())]
        step = max(1, (2**19 if spec.device.type == "cpu" else 2**26) // (rows * self.n_fft))
        for first in range(0, frames, step):
            block = spec[..., first : first + step].mT.contiguous()  # (row, frame, bin)
            x = torch.fft.irfft(block, self.n_fft)  # (row, frame, sample)
            for hop, w in parts:  # the last one is shorter where hops do not fill a frame
                there = slice(first + hop, first + hop + x.shape[1])
                audio[:, there, : len(w)].addcmul_(x[..., hop * self.hop :][..., : len(w)], w)
                weight[there, : len(w)] += w.square()
        # Nothing is heard where no window is: there is no sound to be turned up.
        return audio.div_(weight.clamp_min(torch.finfo(weight.dtype).tiny)).flatten(1)

    def _window(self, like: Tensor) -> Tensor:
        """Give the window in the precision of `like`, also when the module has been cast to another one."""
        if self.window.dtype == like.dtype:
            return self.window
        return torch.hann_window(self.n_fft, dtype=like.dtype, device=like.device) ** self.power


def magnitude(spec: Tensor) -> Tensor:
    """Take the magnitude of complex numbers in a tenth of the time of torch's, which fears to overflow.

    >>> magnitude(torch.tensor([3 + 4j, 3e30 + 4e30j]))
    tensor([5.0000e+00, 5.0000e+30])
    """
    if spec.requires_grad or not spec.is_complex() or not spec.numel():
        return spec.abs()
    found = spec.real.square().addcmul_(spec.imag, spec.imag).sqrt_()
    return found if bool(found.amax().isfinite()) else spec.abs()


def _reflect(audio: Tensor, padding: int) -> Tensor:
    """Continue waveforms at both ends by reflection, again and again where they are shorter than the padding.

    torch refuses a padding that is as long as the signal. Reflecting repeatedly treats a short clip like a long one:
    its edges keep their level and have no jump, which zeros would bring. One sample is repeated.
    """
    length = audio.shape[-1]
    period = max(2 * (length - 1), 1)
    outside = torch.arange(padding, device=audio.device)
    before = (outside - padding).remainder(period)
    after = (outside + length).remainder(period)
    edges = [audio[..., torch.minimum(index, period - index)] for index in (before, after)]
    return torch.cat([edges[0], audio, edges[1]], dim=-1)  # (..., padding + time + padding)
