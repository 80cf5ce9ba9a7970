"""Change the sample rate of a stream: any block size gives the very samples of the whole file at once.

An output sample at time t is the sum of the input around t times a windowed sinc, torchaudio's:

    y[j] = Σ_n x[n] h(j · rate_in / rate_out − n)

In lowest terms 48000/44100 is 160/147: the pattern repeats every 160 samples in, 147 out, so 147 rows of h serve them
all and a matrix product does the work. Rates with no common divisor to speak of (44099 to 44100) would need rows by the
gigabyte: beyond `_LARGEST_TABLE` numbers, h is read from a fine table by linear interpolation instead.

The kernel is 80 zero crossings a side under Kaiser's window, β for a stop band of 100 dB, its -6 dB point half way
between 20 kHz and 22.05 kHz. Measured for 48 to 44.1 kHz: a tone of 20 kHz keeps its level within 0.0001 dB, one of
20.5 kHz loses 0.17 dB, all above 22.05 kHz is gone by 108 dB; there and back, music below 20 kHz differs by -110 dB.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd, prod

import torch
from torch import Tensor

from separate.errors import DependencyError

__all__ = ["Resampler", "resample"]

_CROSSINGS = 80
_ROLLOFF = 0.9535  # of the lower Nyquist frequency: so 20 kHz passes where that is 22.05 kHz
_BETA = 10.06
_LARGEST_TABLE = 2**22
_PHASES = (
    2048  # of the fine table, a sample of the lower rate: interpolating it costs less than the stop band lets through
)


class Resampler:
    """Resample block by block: `process(block) ... flush()`.

    The output is `ceil(samples * rate_out / rate_in)` long and has no delay: sample 0 is sample 0. What `process`
    returns may be shorter or longer than its share; nothing is missing after `flush`, which also makes ready for
    another song. All samples are computed in pieces of one fixed size, so they do not depend on the blocks, and memory
    stays bounded.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        if rate_in < 1 or rate_out < 1:
            raise ValueError(f"rates must be positive, not {rate_in} and {rate_out}")
        # channel, time; begins `_width` samples before the next output's time
        self._waiting: Tensor | None = None
        divisor = gcd(rate_in, rate_out)
        self._in, self._out = rate_in // divisor, rate_out // divisor
        width = ceil(_CROSSINGS / _ROLLOFF * max(1.0, rate_in / rate_out))  # as torchaudio computes it
        self._periodic = self._out * (self._in + 2 * width) <= _LARGEST_TABLE
        if self._in == self._out:
            self._piece = 0
        elif self._periodic:
            self._rows, self._width = _kernel(self._in, self._out, _ROLLOFF)
            self._piece = ceil(2**14 / self._out) * self._out  # samples out
        else:
            self._rows, self._width = _fine_table(self._in, self._out)
            self._piece = 2**10
        self._received = self._done = 0  # samples

    def process(self, block: Tensor) -> Tensor:
        """Take (channel, time) samples and return those that can be computed from all that came so far."""
        if self._in == self._out:
            self._waiting = block[:, :0]
            return block
        if self._waiting is None:
            self._waiting = block.new_zeros(block.shape[0], self._width)  # the silence before the song
        self._received += block.shape[1]
        self._waiting = torch.cat([self._waiting, block], dim=1)
        return self._pieces()

    def flush(self) -> Tensor:
        """Return the samples that are left, and forget the song."""
        if self._waiting is None:
            return torch.zeros(0, 0)
        left = -(-self._received * self._out // self._in) - self._done
        if left > 0:
            silence = -(-left // self._piece) * self._piece * self._in // self._out + self._needed()
            self._waiting = torch.nn.functional.pad(self._waiting, (0, silence))
        rest = self._pieces()[:, : max(left, 0)]
        self._restart()
        return rest

    def _restart(self) -> None:
        self._waiting = None
        self._received = self._done = 0

    def _needed(self) -> int:
        """Count the waiting samples that the next piece takes."""
        first, last = self._done * self._in // self._out, (self._done + self._piece - 1) * self._in // self._out
        return last - first + 2 * self._width + (self._in if self._periodic else 2)

    def _pieces(self) -> Tensor:
        """Compute all that the waiting samples allow."""
        assert self._waiting is not None
        fitting = self._waiting.shape[1] * self._out // self._in + self._piece
        result = self._waiting.new_empty(self._waiting.shape[0], fitting)  # channel, time
        at = count = 0
        while self._piece and at + (needed := self._needed()) <= self._waiting.shape[1]:
            taken = self._waiting[:, at : at + needed].clone()  # a product's last bit may depend on strides
            piece = self._periods(taken) if self._periodic else self._interpolated(taken)
            result[:, count : count + self._piece] = piece
            before = self._done * self._in // self._out
            self._done += self._piece
            count += self._piece
            at += self._done * self._in // self._out - before
        self._waiting = self._waiting[:, at:].clone()
        return result[:, :count]

    def _periods(self, taken: Tensor) -> Tensor:
        periods = self._piece // self._out
        windows = taken.unfold(1, self._rows.shape[1], self._in)[:, :periods]  # channel, period, tap
        return (windows @ self._rows.T.to(taken.device)).flatten(1)  # channel, time

    def _interpolated(self, taken: Tensor) -> Tensor:
        ticks = torch.arange(self._done, self._done + self._piece) * self._in  # time, in 1/_out of an input sample
        sample, rest = ticks // self._out, ticks % self._out
        phase = rest.double() * (self._rows.shape[0] - 1) / self._out
        row = phase.long()
        rows = torch.lerp(self._rows[row], self._rows[row + 1], (phase - row)[:, None].float())  # time, tap
        windows = taken.unfold(1, rows.shape[1], 1)[:, sample - sample[0]]  # channel, time, tap
        return (windows * rows.to(taken.device)).sum(2)  # channel, time


def resample(audio: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """Resample a whole signal of (..., time): the same samples as `Resampler` gives.

    >>> resample(torch.zeros(2, 48000), 48000, 44100).shape
    torch.Size([2, 44100])
    """
    resampler = Resampler(rate_in, rate_out)
    flat = audio.reshape(prod(audio.shape[:-1]), audio.shape[-1])
    result = torch.cat([resampler.process(flat), resampler.flush()], dim=1)
    return result.reshape(*audio.shape[:-1], result.shape[1])


@lru_cache(maxsize=4)  # songs of a folder have the same few rates
def _kernel(step_in: int, step_out: int, rolloff: float) -> tuple[Tensor, int]:
    """Make torchaudio's rows of h, one an output sample of a period: (row, tap) and the taps before the period."""
    try:
        from torchaudio.transforms import Resample
    except (ImportError, OSError, RuntimeError) as error:  # whatever two builds that do not match run into
        raise DependencyError(
            f"torchaudio does not load beside torch {torch.__version__}; install a pair that fits: "
            'pip install "torch==2.11.*" "torchaudio==2.11.*"'
        ) from error
    made = Resample(step_in, step_out, "sinc_interp_kaiser", _CROSSINGS, rolloff, _BETA, dtype=torch.float64)
    return made.kernel[:, 0].float(), made.width


def _fine_table(step_in: int, step_out: int) -> tuple[Tensor, int]:
    """Make rows of h for equally spaced times between one input sample and the next, both included."""
    shrink = min(1.0, step_out / step_in)
    rows, width = _kernel(1, ceil(_PHASES * shrink), _ROLLOFF * shrink)
    next_sample = torch.nn.functional.pad(rows[:1], (1, 0))[:, :-1]
    return torch.cat([rows, next_sample]), width
