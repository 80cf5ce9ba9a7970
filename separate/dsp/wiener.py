"""The multichannel Wiener filter: what all sources claim, made to agree with the mixture over all channels.

Each source `j` is modelled as Gaussian, with a power `v_j` in each bin and frame and a spatial covariance matrix `R_j`
in each bin. Both are measured on the current estimates `y_j`, and the best estimates under that model replace them:

    y_j = m_j x / |x|                       `initial_estimates`: magnitudes with the mixture's phase; then, repeatedly:
    v_j = mean over channels of |y_j|²      `model`, of the first estimates of two channels `initial_model`
    R_j = Σ_t y_j y_jᴴ / (ε + Σ_t v_j)
    C   = Σ_j v_j R_j + n I                 `mixture_covariance`
    z   = C⁻¹ x                             `whiten`
    y_j = v_j R_j z                         `separate_sources`

Method: Duong, Vincent and Gribonval, "Under-determined reverberant audio source separation using a full-rank spatial
covariance model" (2010), in the form of Nugraha, Liutkus and Vincent, "Multichannel music separation with deep neural
networks" (2016).

C is nearly singular wherever a mixture is nearly mono, so everything is computed in float64, whatever comes in. No bin
looks at another one: all steps are done for a few bins, whose numbers stay in the processor's cache, then for the next.

Within this file a complex vector of `channel` entries is a real one of `row` = 2 × channel entries, the real parts
above the imaginary parts, and a complex matrix A + iB is the real one of the blocks [[A, −B], [B, A]]. Sums and
products stay what they were, and torch's real arithmetic is several times as fast as its complex one.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from separate.dsp.parallel import side_by_side

__all__ = ["share_residual", "wiener"]

EPS = 1e-10  # ε and n = √ε hold for mixtures whose loudest bin has a magnitude of 10, and follow the power of others.
QUIET = 1e-30  # of that power: digital silence, which must not be divided by


@torch.no_grad()
def wiener(mixture: Tensor, magnitudes: Tensor, iterations: int = 1) -> Tensor:
    """Separate a mixture by expectation maximisation of a multichannel Wiener filter, given magnitude estimates.

    The filter uses both what the estimates say about each bin and where each source sits between the channels. Every
    item of a batch is filtered by itself. A silent mixture gives silence, and so does a source without magnitude.

    Args:
        mixture: complex spectrogram, (..., channel, bin, frame).
        magnitudes: non-negative estimates for all sources, (..., source, channel, bin, frame).
        iterations: how often the model is measured and the sources are estimated. One is usual; zero only joins the
            magnitudes with the mixture's phase.

    Returns:
        Complex spectrograms in the mixture's precision, (..., source, channel, bin, frame).

    >>> mixture = torch.randn(2, 5, 20, dtype=torch.complex64)
    >>> magnitudes = torch.stack([0.75 * mixture.abs(), 0.25 * mixture.abs()])
    >>> vocals, rest = wiener(mixture, magnitudes)
    >>> torch.allclose(vocals, 0.9 * mixture, atol=1e-3)
    True
    """
    if magnitudes.ndim < 4 or magnitudes.shape[:-4] + magnitudes.shape[-3:] != mixture.shape:
        raise ValueError(
            f"magnitudes have the mixture's shape with an axis for the sources before its last three: "
            f"{tuple(magnitudes.shape)} does not fit {tuple(mixture.shape)}"
        )
    if mixture.device.type == "mps":  # It knows no float64.
        return wiener(mixture.cpu(), magnitudes.cpu(), iterations).to(mixture.device)
    estimates = torch.empty(magnitudes.shape, dtype=mixture.dtype, device=mixture.device)
    songs = mixture.reshape(-1, *mixture.shape[-3:])
    # A few bins of what has its bins one after the other would be gathered from everywhere.
    claims = magnitudes.contiguous().view(-1, *magnitudes.shape[-4:])
    for song, claim, estimate in zip(songs, claims, estimates.view(claims.shape), strict=True):
        loudness = _peak_power(song).div(100).clamp_min(QUIET)
        side_by_side(partial(_filter_bins, song, claim, estimate, iterations, loudness), _blocks(claim))
    return estimates


def _filter_bins(song: Tensor, claim: Tensor, estimate: Tensor, iterations: int, loudness: Tensor, bins: slice) -> None:
    """Do all steps for a few bins."""
    x = _to_rows(song[:, bins])
    m = claim[:, :, bins].movedim(2, 0).to(torch.float64, memory_format=torch.contiguous_format)
    y = None if iterations and len(song) == 2 else initial_estimates(m, x)
    for _ in range(iterations):
        v, R = initial_model(m, x, EPS * loudness) if y is None else model(y, EPS * loudness)
        C = mixture_covariance(v, R, EPS**0.5 * loudness)
        y = separate_sources(v, R, whiten(C, x, EPS**0.5 * loudness))
    assert y is not None
    _from_rows(y, estimate[:, :, bins])


@torch.no_grad()
def share_residual(mixture: Tensor, estimates: Tensor, source_dim: int = -4) -> Tensor:
    r"""Share what the sources leave of the mixture evenly among them, in place, so that they sum to it.

    .. math:: y_j \leftarrow y_j + (x - \sum_i y_i) / S

    Args:
        mixture: spectrogram or waveform.
        estimates: the mixture's shape with an axis for the sources; changed and returned.
        source_dim: that axis: -4 for (..., source, channel, bin, frame), -3 for (..., source, channel, time).
    """
    residual = estimates.sum(source_dim).sub_(mixture).div_(-estimates.shape[source_dim])
    return estimates.add_(residual.unsqueeze(source_dim))


def initial_estimates(m: Tensor, x: Tensor) -> Tensor:
    """Join magnitudes m (bin, source, channel, frame) with the phase of the mixture x (bin, row, frame)."""
    return (m.unsqueeze(2) * phase(x).unsqueeze(1)).flatten(2, 3)  # (bin, source, row, frame)


def phase(x: Tensor) -> Tensor:
    """Take the phase of x (bin, row, frame) as numbers of magnitude 1: (bin, 2, channel, frame)."""
    real, imag = x.chunk(2, dim=1)  # (bin, channel, frame)
    squared = real.square().addcmul_(imag, imag)
    silent = squared == 0  # The phase of zero is zero, as everywhere else.
    gain = squared.rsqrt_().masked_fill_(silent, 0)
    return torch.stack([(real * gain).add_(silent), imag * gain], dim=1)


def model(y: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Measure estimates y (bin, source, row, frame): their power and their spatial covariance."""
    v = power(y)
    return v, spatial_covariance(y, v, eps)


def initial_model(m: Tensor, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the initial estimates of two channels, which need not be there for it.

    What they have of the mixture's phase is one and the same for all sources: y₁ y₂* = m₁ m₂ p₁ p₂*.
    """
    squares = m.square()  # (bin, source, channel, frame)
    v = squares.sum(2).div_(2)
    energy = squares.sum(3)  # (bin, source, channel)
    (p1, p2), (p1_imag, p2_imag) = (part.unbind(1) for part in phase(x).unbind(1))  # (bin, frame)
    turn = torch.stack([(p1 * p2).addcmul_(p1_imag, p2_imag), (p1_imag * p2).addcmul_(p1, p2_imag, value=-1)], dim=2)
    both, both_imag = ((m[:, :, 0] * m[:, :, 1]) @ turn).unbind(2)  # (bin, source)
    real = torch.stack([energy[..., 0], both, both, energy[..., 1]], dim=2)
    imag = torch.stack([zero := torch.zeros_like(both), both_imag, -both_imag, zero], dim=2)
    return v, _covariance(torch.unflatten(real, 2, (2, 2)), torch.unflatten(imag, 2, (2, 2)), v, eps)


def power(y: Tensor) -> Tensor:
    """Average the power of estimates y (bin, source, row, frame) over their channels."""
    return y.square().sum(2).div_(y.shape[2] // 2)  # (bin, source, frame)


def spatial_covariance(y: Tensor, v: Tensor, eps: Tensor) -> Tensor:
    """Measure how estimates y (bin, source, row, frame) of power v (bin, source, frame) sit between the channels."""
    products = y @ y.mT  # (bin, source, row, row)
    above, below = products.chunk(2, dim=2)
    (real_real, real_imag), (imag_real, imag_imag) = above.chunk(2, dim=3), below.chunk(2, dim=3)
    return _covariance(real_real + imag_imag, imag_real - real_imag, v, eps)


def _covariance(real: Tensor, imag: Tensor, v: Tensor, eps: Tensor) -> Tensor:
    """Put parts (bin, source, channel, channel) into the real form of a matrix, over the sum of powers v."""
    R = torch.cat([torch.cat([real, -imag], dim=3), torch.cat([imag, real], dim=3)], dim=2)
    return R / (eps + v.sum(-1))[..., None, None]  # (bin, source, row, row)


def mixture_covariance(v: Tensor, R: Tensor, noise: Tensor) -> Tensor:
    """Add up what sources of power v (bin, source, frame) and covariance R (bin, source, row, row) bring, and noise.

    Of the real form of the matrices only the left half is computed: the real parts above the imaginary parts.
    """
    channels = R.shape[-1] // 2
    C = (R[..., :channels].flatten(2).mT @ v).view(-1, 2, channels, channels, v.shape[-1])
    C[:, 0].diagonal(dim1=1, dim2=2).add_(noise)
    return C  # (bin, 2, channel, channel, frame)


def whiten(C: Tensor, x: Tensor, noise: Tensor) -> Tensor:
    """Solve C z = x for the mixture x (bin, row, frame) of covariance C (bin, 2, channel, channel, frame).

    One and two channels have a closed form; for two, z = [[d, −b], [−b*, a]] x / (a d − |b|²).
    """
    channels = C.shape[2]
    if channels == 1:
        return x / C[:, 0, 0]
    if channels > 2:
        matrix = torch.complex(C[:, 0], C[:, 1]).movedim(-1, 1)  # (bin, frame, channel, channel)
        vector = torch.complex(*x.chunk(2, dim=1)).mT  # (bin, frame, channel)
        z = torch.linalg.solve_ex(matrix, vector)[0].mT
        return torch.cat([z.real, z.imag], dim=1)
    a, d, b, b_imag = C[:, 0, 0, 0], C[:, 0, 1, 1], C[:, 0, 0, 1], C[:, 1, 0, 1]
    determinant = (a * d).addcmul_(b, b, value=-1).addcmul_(b_imag, b_imag, value=-1)
    # Noise alone makes it this much at least, but rounding may leave less, even zero.
    determinant = torch.maximum(determinant, (a + d - noise).mul_(noise))
    x1, x2, x1_imag, x2_imag = x.unbind(1)
    z1 = (d * x1).addcmul_(b, x2, value=-1).addcmul_(b_imag, x2_imag)
    z2 = (a * x2).addcmul_(b, x1, value=-1).addcmul_(b_imag, x1_imag, value=-1)
    z1_imag = (d * x1_imag).addcmul_(b, x2_imag, value=-1).addcmul_(b_imag, x2, value=-1)
    z2_imag = (a * x2_imag).addcmul_(b, x1_imag, value=-1).addcmul_(b_imag, x1)
    return torch.stack([z1, z2, z1_imag, z2_imag], dim=1).div_(determinant.unsqueeze(1))  # (bin, row, frame)


def separate_sources(v: Tensor, R: Tensor, z: Tensor) -> Tensor:
    """Give each source of power v and covariance R its part of the whitened mixture z (bin, row, frame)."""
    images = (R.flatten(1, 2) @ z).view(*R.shape[:3], z.shape[-1])
    return images.mul_(v.unsqueeze(2))  # (bin, source, row, frame)


def _peak_power(song: Tensor) -> Tensor:
    """Find the largest |x|² of a spectrogram (channel, bin, frame), as a float64."""
    return torch.stack([c.real.square().addcmul_(c.imag, c.imag).amax() for c in song]).amax().double()


def _blocks(claim: Tensor) -> list[slice]:
    """Divide the bins of a claim (source, channel, bin, frame) into blocks that fit a cache, or fill an accelerator."""
    sources, channels, bins, frames = claim.shape
    numbers = 2**19 if claim.device.type == "cpu" else 2**25
    step = max(1, numbers // (2 * channels * (sources + channels) * frames))
    return [slice(start, start + step) for start in range(0, bins, step)]


def _to_rows(spec: Tensor) -> Tensor:
    """Turn a complex (channel, bin, frame) into real (bin, row, frame)."""
    channels, bins, frames = spec.shape
    rows = torch.empty(bins, 2, channels, frames, dtype=torch.float64, device=spec.device)
    spec = spec.to(torch.complex128)  # One small copy in the order of memory, and only then another order.
    rows[:, 0] = spec.real.movedim(1, 0)
    rows[:, 1] = spec.imag.movedim(1, 0)
    return rows.flatten(1, 2)


def _from_rows(rows: Tensor, spec: Tensor) -> None:
    """Write real (bin, source, row, frame) into a complex (source, channel, bin, frame)."""
    real, imag = rows.movedim(0, 2).chunk(2, dim=1)
    spec.real.copy_(real)
    spec.imag.copy_(imag)
