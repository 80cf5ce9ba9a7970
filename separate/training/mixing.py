"""Mixes for training, without end: crops of stems from a pool, put together at random, as band magnitudes."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from separate.dsp.stft import STFT
from separate.models.layers import Bands
from separate.training.augment import speed
from separate.training.config import Mixing
from separate.training.pool import Pool

__all__ = ["Batch", "Mixer", "prefetched"]


@dataclass(frozen=True)
class Batch:
    """A batch of mixes, as magnitudes averaged over bands."""

    mixture: Tensor  # (frame, item, band), or twice as many bands where the net hears the sides too
    targets: Tensor  # (frame, item, source, band)
    merged: Tensor  # (item): 1 where the bass is known only together with the other instruments, as `other`

    def split(self, parts: int) -> list[Batch]:
        """Deal the items out to `parts` batches."""
        pieces = zip(self.mixture.chunk(parts, 1), self.targets.chunk(parts, 1), self.merged.chunk(parts), strict=True)
        return [Batch(*piece) for piece in pieces]


class Mixer:
    """Draws batches: an endless iterator.

    Reading and transforming cost most, so what has been drawn serves for several batches, with its stems dealt out
    anew, each at another level and behind another equaliser.
    """

    def __init__(
        self, pool: Pool, mixing: Mixing, sources: tuple[str, ...], stft: STFT, bands: Bands, sides: bool, seed: int
    ) -> None:
        self.pool, self.mixing, self.sources, self.sides = pool, mixing, sources, sides
        self.stft, self.bins = stft, bands.bins
        self.rng = np.random.default_rng(seed)
        self.length = (mixing.frames - 1) * stft.hop
        weight = bands.weight[:, : bands.bins]
        self.average = (weight / weight.sum(1, keepdim=True)).T.bfloat16()  # (bin, band)
        bins = torch.arange(bands.bins, dtype=torch.float32)
        centres = (weight @ bins) / weight.sum(1)
        self.octaves = [torch.log2((at * 44100 / stft.n_fft).clamp(min=30) / 30) for at in (bins, centres)]

    def __iter__(self) -> Iterator[Batch]:
        while True:
            spec, merged = self.draw()
            heard = self.heard(spec)
            for turn in range(self.mixing.turns):
                yield self.mix(spec, heard, merged, shuffle=turn > 0)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Draw stems: spectra (song, source, channel, frame, bin), and which songs' `other` holds the bass."""
        items = [self.item() for _ in range(self.mixing.batch // 2)]
        waves = torch.stack([waves for waves, _ in items])  # (song, source, channel, time)
        spec = self.stft(waves).transpose(3, 4)[..., : self.bins]  # in memory, it is that way round already
        return spec, torch.tensor([merged for _, merged in items])

    def heard(self, spec: Tensor) -> Tensor:
        """Average magnitudes over bands: (..., bin) -> (..., band)."""
        return (spec.abs().bfloat16() @ self.average).float()

    def mix(self, spec: Tensor, heard: Tensor, merged: Tensor, shuffle: bool) -> Batch:
        """Mix songs, given as stems (song, source, channel, frame, bin) and as what is `heard` of those, in bands.

        The batch has an item for each channel of a song.
        """
        songs, sources, channels = heard.shape[:3]
        order = [self.rng.permutation(songs) if shuffle else np.arange(songs) for _ in range(sources)]
        gains = self.gains(songs, sources, channels)  # (song, source, channel, 1)
        merged = merged[order[self.sources.index("other")]]
        if shuffle:  # a foreign bass would be one too many to tell apart
            gains[:, self.sources.index("bass")] *= 1 - merged[:, None, None]
        fine, coarse = self.curves(gains)  # (song, source, channel, bin), (song, source, channel, band)
        mixture = torch.zeros_like(spec[:, 0])  # (song, channel, frame, bin)
        for source in range(sources):
            mixture.addcmul_(spec[order[source], source], fine[:, source].unsqueeze(2).to(mixture.dtype))
        targets = torch.stack([heard[order[source], source] for source in range(sources)], 1) * coarse.unsqueeze(3)
        inputs = self.heard(mixture)  # (song, channel, frame, band)
        if self.sides:
            inputs = torch.cat([inputs, self.heard(mixture - mixture.mean(1, keepdim=True))], 3)
        return Batch(
            inputs.flatten(0, 1).transpose(0, 1),
            targets.permute(3, 0, 2, 1, 4).flatten(1, 2),
            merged.repeat_interleave(channels),
        )

    def gains(self, songs: int, sources: int, channels: int) -> Tensor:
        """Draw how loud every stem is, some not at all, with either sign, and some to one side."""
        rng, mixing = self.rng, self.mixing
        db = rng.normal(0, mixing.gain, (songs, sources, 1, 1)) + rng.normal(
            mixing.level, mixing.master, (songs, 1, 1, 1)
        )
        db[:, self.sources.index("vocals")] += mixing.vocals
        aside = rng.normal(0, mixing.pan, (songs, sources, 1, 1)) * (rng.random((songs, sources, 1, 1)) < mixing.panned)
        db = db + aside * np.linspace(-1, 1, channels)[:, None]
        present = rng.random((songs, sources, 1, 1)) >= mixing.absent
        return torch.from_numpy(10 ** (db / 20) * present * rng.choice([-1, 1], (songs, sources, 1, 1))).float()

    def curves(self, gains: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a smooth equaliser for every stem, times its gain: over bins, and its magnitude over bands."""
        points = torch.from_numpy(self.rng.normal(0, self.mixing.equaliser, (*gains.shape[:2], 1, 11))).float()
        fine, coarse = (
            torch.lerp(points[..., at.long()], points[..., at.long() + 1], at.frac()) for at in self.octaves
        )
        return 10 ** (fine / 20) * gains, 10 ** (coarse / 20) * gains.abs()

    def item(self) -> tuple[Tensor, float]:
        """Draw both channels of every stem, (source, channel, time), and whether `other` holds the bass too."""
        rng, mixing = self.rng, self.mixing
        together = rng.random() < mixing.together
        song, place = self.pool.draw(rng, mixing.songs), rng.random()
        ratio = 2 ** (rng.normal(0, 1.5) / 12) if rng.random() < mixing.varispeed else 1.0
        stems, merged = {}, False
        for source in self.sources:
            if not together:
                song, place = self.pool.draw(rng, mixing.songs), rng.random()
            stems[source] = self.crop(song / f"{source}.npy", place, ratio)
            merged |= source == "other" and not (song / "bass.npy").exists()
        if merged and not together:
            stems["bass"] = torch.zeros(2, self.length)
        waves = torch.stack([stems[source] for source in self.sources])  # (source, channel, time)
        if rng.random() < mixing.mono:
            waves = waves.mean(1, keepdim=True).expand_as(waves)
        return waves, float(merged)

    def crop(self, path: Path, place: float, ratio: float) -> Tensor:
        """Read a crop, (channel, time), at a share `place` of the song; a stem that is not there is silent."""
        rng, mixing = self.rng, self.mixing
        if not path.exists():
            return torch.zeros(2, self.length)
        song = np.load(path, mmap_mode="r")
        wanted = self.length if ratio == 1 else int(self.length * ratio) + 4
        start = int(place * max(0, song.shape[1] - wanted))
        x = torch.from_numpy(song[:, start : start + wanted].astype(np.float32))
        if ratio != 1:
            x = speed(x, ratio)[:, : self.length]
        x = torch.nn.functional.pad(x, (0, self.length - x.shape[1])).expand(2, -1)
        if rng.random() < mixing.swap:
            x = x.flip(0)
        if rng.random() < mixing.width:
            x = torch.lerp(x.mean(0), x, rng.uniform(0, 1.5))
        return x


def prefetched(mixer: Mixer, ahead: int = 4, refresh: int = 50) -> Generator[Batch, None, None]:
    """Mix in a thread of its own, `ahead` batches before they are asked for; closing the iterator ends the thread."""
    ready: queue.Queue[Batch | Exception] = queue.Queue(ahead)
    stop = threading.Event()

    def work() -> None:
        torch.set_num_threads(1)
        try:
            for number, batch in enumerate(mixer):
                ready.put(batch)
                if stop.is_set():
                    return
                if number % refresh == 0:
                    mixer.pool.find()
        except Exception as error:  # it belongs to whoever waits for a batch
            ready.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            batch = ready.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch
    finally:
        stop.set()
        while thread.is_alive():  # it may be waiting for room
            with contextlib.suppress(queue.Empty):
                ready.get(timeout=0.1)
