"""What a song becomes: its stems, or sums of them and of the song itself.

    separate song.mp3                            vocals, drums, bass, other
    separate song.mp3 --karaoke                  karaoke = mixture - vocals
    separate song.mp3 --karaoke --guide -14dB    karaoke = mixture - 0.8 vocals
    separate song.mp3 --without vocals,drums     no_vocals_drums = mixture - vocals - drums
    separate song.mp3 --only vocals,drums        vocals_drums = vocals + drums
    separate song.mp3 --stem-mp4                 mixture, drums, bass, other, vocals: streams of one file

What is left of the mixture is never louder than it. If its peak is, all files of the song are turned down alike, as
for clipping, and still add up; with `level` it is brought to the mixture's loudness, as far as the peak allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, log10
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separate.models import MIXTURE

if TYPE_CHECKING:
    from separate.dsp.loudness import Loudness

__all__ = ["Mixdown", "Mixer", "Sum"]

Sum = Mapping[str, float]  # a stem, or "mixture", and what it is multiplied by
Blocks = dict[str, NDArray[np.float32]]  # name -> (channel, time)

_HIGHEST = 2.0  # gain of `level`: a voice that is more than half of a song leaves little but what it leaked
_HEARD = 1.0001  # peaks that differ by less than 0.001 dB are the same


@dataclass(frozen=True)
class Mixdown:
    """Which files are written of a song.

    Attributes:
        names: what the files are called: stems, and what `sums` has.
        sums: name -> what is added up for it; more than one sum are streams of one file, one above the other.
        in_title: whether the names belong into the titles.
        level: whether to bring what is left of a song to its loudness.
    """

    names: tuple[str, ...] = ()
    sums: Mapping[str, tuple[Sum, ...]] = field(default_factory=dict)
    in_title: bool = False
    level: bool = False

    @property
    def streams(self) -> int:
        """How many streams each file has."""
        return max((len(sums) for sums in self.sums.values()), default=1)

    @property
    def rests(self) -> list[str]:
        """The names of what is left of the mixture."""
        return [name for name, sums in self.sums.items() if len(sums) == 1 and MIXTURE in sums[0]]


class Mixer:
    """Makes the files of one song out of its stems, block by block, and knows at its end how loud they should be.

    Attributes:
        stems: what it needs.
        settles: whether it may have gains for the files.
        gain: what all files have to be multiplied by so that none is louder than the song; known after `gains`.
        said: what a user may want to know, a line each; complete after `gains`.
    """

    def __init__(self, mixdown: Mixdown, names: Iterable[str], rate: int) -> None:
        self.sums = {name: ({name: 1.0},) for name in names} | dict(mixdown.sums)
        self.stems = list(dict.fromkeys(stem for sums in self.sums.values() for sum_ in sums for stem in sum_))
        self.gain = 1.0
        self.said: list[str] = []
        self.settles = bool(mixdown.rests)
        self._rests = mixdown.rests
        self._level = mixdown.level
        self._rate = rate
        self._peaks = dict.fromkeys((MIXTURE, *mixdown.rests), 0.0)
        self._meters: dict[str, Loudness] = {}

    def mix(self, stems: Blocks) -> Blocks:
        """Make a block of every file out of a block of the stems."""
        files = {name: np.concatenate([add(sum_, stems) for sum_ in sums]) for name, sums in self.sums.items()}
        if self._rests:
            self._measure({MIXTURE: stems[MIXTURE]} | {name: files[name] for name in self._rests})
        return files

    def _measure(self, blocks: Blocks) -> None:
        for name, block in blocks.items():
            self._peaks[name] = max(self._peaks[name], float(np.abs(block).max(initial=0)))
        if self._level:
            import torch

            from separate.dsp.loudness import Loudness

            for name, block in blocks.items():
                if name not in self._meters:
                    self._meters[name] = Loudness(self._rate, len(block))
                self._meters[name].process(torch.from_numpy(block))

    def gains(self) -> dict[str, float]:
        """Say at the song's end what to multiply each file by."""
        highest = {name: self._highest(name) for name in self._rests}
        if self._level:
            return dict.fromkeys(self.sums, 1.0) | {name: self._levelled(name, highest[name]) for name in self._rests}
        self.gain = min(1.0, *highest.values()) if highest else 1.0
        return dict.fromkeys(self.sums, self.gain)

    def _highest(self, name: str) -> float:
        """Find the gain that gives a file the peak of the song."""
        song, peak = self._peaks[MIXTURE], self._peaks[name]
        if not (song and peak):
            return inf
        return 1.0 if song < peak < song * _HEARD else song / peak

    def _levelled(self, name: str, highest: float) -> float:
        """Find the gain that makes a file as loud as the song, and say what it is."""
        song, loudness = (self._meters[each].integrated() for each in (MIXTURE, name))
        if not (isfinite(song) and isfinite(loudness)):
            return min(1.0, highest)
        wanted = 10 ** ((song - loudness) / 20)
        gain = min(wanted, highest, _HIGHEST)
        why = "as loud as the song"
        if gain < wanted:
            limit = "its peak would be above the song's" if gain == highest else "more would be noise"
            why = f"{20 * log10(wanted / gain):.2f} dB less loud than the song, because {limit}"
        self.said.append(f"{name} was turned {'up' if gain > 1 else 'down'} by {abs(20 * log10(gain)):.2f} dB: {why}")
        return gain


def add(sum_: Sum, stems: Blocks) -> NDArray[np.float32]:
    """Add up stems, each times its factor."""
    first, *others = (stems[name] if factor == 1 else np.float32(factor) * stems[name] for name, factor in sum_.items())
    return sum(others, start=first)
