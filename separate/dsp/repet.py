"""What repeats in a song is the accompaniment, what does not is the voice: the baseline for vocals."""

from __future__ import annotations

from functools import partial
from math import ceil, log2

import torch
import torch.nn.functional as F
from torch import Tensor

from separate.dsp.median import median
from separate.dsp.parallel import side_by_side
from separate.dsp.stft import STFT
from separate.dsp.stretches import stretches

__all__ = ["repet"]


@torch.no_grad()
def repet(
    mix: Tensor, rate: int, *, similar: int = 31, apart: float = 1.0, lowest: float = 100.0
) -> tuple[Tensor, Tensor]:
    r"""Separate waveforms (channel, time) into a repeating background and a foreground, which sum to them: REPET-SIM.

    For each frame m, the frames J(m) that sound most like it are those whose magnitudes, averaged over the channels,
    have the highest cosine similarity to its own. Their median W has what they share, and the background is at most
    that:

    .. math:: W[k, m] = \operatorname{median}_{j \in J(m)} |X[k, j]|, \quad
              y_B = X \, \min(W, |X|) \, / \, |X|

    Method: Rafii and Pardo, "Music/voice separation using the similarity matrix" (2012).

    Args:
        mix: waveforms, (channel, time).
        rate: samples a second.
        similar: how many frames J(m) has at most, an odd number; m itself is one of them. The paper's 100 take
            six times as many comparisons.
        apart: seconds between any two of them, so that they are repetitions and not one long note.
        lowest: Hz; what is lower belongs to the background, as no voice is.

    Returns:
        The background and the foreground, (channel, time) each.
    """
    n_fft = 2 ** ceil(log2(0.08 * rate))
    stft = STFT(n_fft, n_fft // 4).to(mix.device)
    parts = list(stretches(mix.shape[1], stft.hop))
    magnitudes = torch.cat([stft(mix[:, part.heard]).abs()[..., part.frames].permute(2, 0, 1) for part in parts])
    index, count = similar_frames(magnitudes.mean(1), similar, max(1, round(apart * rate / stft.hop)))
    voiceless = 1 + int(lowest * n_fft / rate)  # bins
    background = torch.empty_like(mix)
    for part in parts:
        spec = stft(mix[:, part.heard])  # (channel, bin, frame)
        frames = slice(part.first, part.first + spec.shape[2])
        blocks = [slice(first, first + 4) for first in range(0, spec.shape[2], 4)]
        work = partial(_keep_repeating, spec, magnitudes[frames], magnitudes, index[frames], count[frames], voiceless)
        side_by_side(work, blocks)
        background[:, part.kept] = stft.inverse(spec, mix[:, part.heard].shape[1])[:, part.samples]
    return background, mix - background


def similar_frames(magnitudes: Tensor, similar: int, apart: int) -> tuple[Tensor, Tensor]:
    """Find the peaks of each row of the similarity matrix of magnitudes (frame, bin).

    Returns the frames (frame, number), most similar first, and how many of them count (frame): an odd number.
    """
    number = min(similar, len(magnitudes) // (apart + 1) + 1)
    number -= 1 - number % 2
    unit = F.normalize(magnitudes, dim=1)
    frames, counts = [], []
    for rows in torch.split(unit, 256):
        alike = rows @ unit.T  # (row, frame)
        peak = F.max_pool1d(alike[None], 2 * apart + 1, stride=1, padding=apart)[0] == alike
        score, frame = torch.where(peak, alike, 0).topk(number)
        frames.append(frame)
        counts.append((score > 0).sum(1))
    count = torch.cat(counts)
    return torch.cat(frames), (count - 1 + count % 2).clamp_min(1)


def _keep_repeating(
    spec: Tensor, own: Tensor, magnitudes: Tensor, index: Tensor, count: Tensor, voiceless: int, frames: slice
) -> None:
    """Mask some frames of a spectrogram (channel, bin, frame), in place; `own` and what follows are (frame, ...)."""
    alike = magnitudes[index[frames].T]  # (number, frame, channel, bin)
    # In the place of frames that do not count, as many are infinite as are none at all: the median stays where it is.
    rank = torch.arange(len(alike), device=spec.device)[:, None, None, None]
    extra = rank - count[frames][:, None, None]
    alike = alike.masked_fill(extra >= 0, 0).masked_fill((extra >= 0) & (extra % 2 == 0), torch.inf)
    own = own[frames]
    mask = torch.where(own > 0, torch.minimum(median(alike), own) / own, 1.0)  # (frame, channel, bin)
    mask[..., :voiceless] = 1
    spec[..., frames] *= mask.permute(1, 2, 0)
