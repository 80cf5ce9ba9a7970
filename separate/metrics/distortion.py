"""Distortion filters: short filters that turn references into what comes nearest to an estimate.

With references `x_i`, an estimate `y_e` and `L` taps, the projection of the estimate onto the references' delays is

    p_e[t] = Σ_i Σ_a h_ie[a] x_i[t − a],  0 ≤ a < L     with the filters h that leave the least energy in y_e − p_e:
    Σ_j Σ_b G_ia,jb h_je[b] = D_ia,e                    the normal equations, `distortion_filters`
    G_ia,jb = r_ij[a − b],  D_ia,e = r_ie[a]            of correlations alone, `correlations`
    r_ij[k] = Σ_t x_i[t] x_j[t + k]                     of which r_ij[−k] = r_ji[k]

A reference is one channel of a source. G is the same for all estimates, so it is factored once, and the matrix of a
single source is a block on its diagonal. Everything is float64: music leaves bands empty, and its G nearly singular.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor

from separate.dsp.parallel import side_by_side
from separate.metrics.schur import toeplitz_solve

__all__ = ["Read", "Signals", "correlations", "distortion_filters"]

Read = Callable[[int, int], tuple[Tensor, Tensor]]

BLOCK = 16  # FFT blocks of correlations for each filter length; what they overlap by is computed twice.
NOISE_FLOOR = 1e-8


class Signals:
    """References and estimates of one track, read bit by bit, by one thread at a time.

    Args:
        read: from the first sample and the one after the last -> references and estimates, (source, channel, time).
        length: samples of the track.
    """

    def __init__(self, read: Read, length: int) -> None:
        self.length = length
        self._read = read
        self._lock = Lock()
        first = self.between(0, min(1, length), 0, length)
        self.sources, self.channels = first.shape[1:3]
        self.device = first.device

    def between(self, start: int, stop: int, begin: int, end: int) -> Tensor:
        """Read samples from `start` to `stop`, in float64, as if there were silence before `begin` and after `end`.

        Returns:
            References, then estimates: (2, source, channel, stop - start).
        """
        first, last = max(start, begin), min(stop, end)
        with self._lock:
            both = self._read(first, last)
        device = "cpu" if both[0].device.type == "mps" else both[0].device  # It knows no float64.
        signals = torch.zeros(2, *both[0].shape[:2], stop - start, dtype=torch.float64, device=device)
        for signal, samples in zip(signals, both, strict=True):
            signal[..., first - start : last - start] = samples
        return signals


@torch.no_grad()
def correlations(signals: Signals, lags: int) -> tuple[Tensor, Tensor]:
    """Correlate each reference with all references and all estimates, for lags from zero on.

    Returns:
        r_ij, (reference, reference, lag), and r_ie, (reference, estimate, lag): channels are counted through.
    """
    inputs = signals.sources * signals.channels
    size = 2 ** (BLOCK * lags - 1).bit_length()
    hop = size - lags + 1
    total = torch.zeros(inputs, 2 * inputs, size // 2 + 1, dtype=torch.complex128, device=signals.device)
    adding = Lock()

    def add_part(start: int) -> None:
        part = torch.zeros_like(total)
        stop = min(start + 16 * hop, signals.length)
        for first in range(start, stop, hop):
            block = signals.between(first, first + size, 0, signals.length).view(2 * inputs, size)
            later = torch.fft.rfft(block)
            now = torch.fft.rfft(block[:inputs, :hop], size)
            part.addcmul_(now.conj().resolve_conj().unsqueeze(1), later)
        with adding:
            total.add_(part)

    side_by_side(add_part, range(0, signals.length, 16 * hop))
    r = torch.fft.irfft(total, size)[..., :lags]
    return r[:, :inputs], r[:, inputs:]


@torch.no_grad()
def distortion_filters(r: Tensor, d: Tensor) -> Tensor:
    """Solve the normal equations of correlations r (reference, reference, lag) and d (reference, estimate, lag).

    A reference that is another one, only louder or softer, is left out: its filters are silent. Where G is singular
    for float64 nevertheless, because bands are empty or references are filtered versions of each other, the equations
    have many solutions, and rounding would choose among them. Then each reference gets a noise floor of its own, 80 dB
    below it, which is what samples of 16 bits have by nature.

    Returns:
        Filters h, (reference, estimate, lag): not numbers where the correlations are none.
    """
    h = torch.zeros_like(d)
    if not r.isfinite().all():
        return h.fill_(torch.nan)
    kept = independent(r[..., 0])
    h[kept] = solved(r[kept][:, kept], d[kept])
    return h


def solved(r: Tensor, d: Tensor) -> Tensor:
    """Solve the normal equations for filters (reference, estimate, lag).

    Many equations are solved by their structure, few by a plain factor, which is faster then, and so are those that are
    nearly singular, because it is more exact.
    """
    if r.shape[0] * r.shape[2] > 2048:
        fast = toeplitz_solve(r, d)
        if fast is not None:
            return fast
    D = d.transpose(1, 2).flatten(0, 1)  # (reference × lag, estimate)
    G = gram(r)
    factor, failed = torch.linalg.cholesky_ex(G)
    if failed:
        del factor
        G.diagonal().mul_(1 + NOISE_FLOOR)
        factor = torch.linalg.cholesky(G)
    solution: Tensor = torch.linalg.solve_triangular(factor, D, upper=False)  # cholesky_solve would copy the factor.
    solution = torch.linalg.solve_triangular(factor.mT, solution, upper=True)
    return solution.view(len(r), d.shape[2], d.shape[1]).transpose(1, 2)


def independent(r: Tensor) -> Tensor:
    """Find the references that are neither silent nor multiples of an earlier one, by correlations r at lag zero."""
    energy = r.diagonal()
    alike = r.square() > (1 - 1e-12) * energy.outer(energy)
    return (~alike.tril(-1).any(1) & (energy > 0)).nonzero().squeeze(1)


def gram(r: Tensor) -> Tensor:
    """Lay out correlations r (reference, reference, lag) as the matrix G (reference × lag, reference × lag)."""
    inputs, _, lags = r.shape
    backwards = torch.cat([r.flip(-1), r.transpose(0, 1)[..., 1:]], dim=-1)  # r_ij[L - 1], ..., r_ij[1 - L]
    G = r.new_empty(inputs, lags, inputs, lags)
    for a in range(lags):
        G[:, a] = backwards[..., lags - 1 - a : 2 * lags - 1 - a]
    return G.view(inputs * lags, inputs * lags)
