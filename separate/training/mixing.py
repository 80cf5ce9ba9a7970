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

    mixture: Tensor  # (frame, item, band)
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
        self, pool: Pool, mixing: Mixing, sources: tuple[str, ...], stft: STFT, bands: Bands, seed: int
    ) -> None:
        self.pool, self.mixing, self.sources = pool, mixing, sources
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
            heard = self.heard(spec.abs())
            for turn in range(self.mixing.turns):
                yield self.mix(spec, heard, merged, shuffle=turn > 0)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Draw stems: spectra (item, source, frame, bin), and which items' `other` holds the bass."""
        items = [self.item() for _ in range(self.mixing.batch)]
        waves = torch.stack([waves for waves, _ in items])  # (item, source, time)
        spec = self.stft(waves).transpose(2, 3)[..., : self.bins]  # in memory, it is that way round already
        return spec, torch.tensor([merged for _, merged in items])

    def heard(self, magnitudes: Tensor) -> Tensor:
        """Average magnitudes over bands: (..., bin) -> (..., band)."""
        return (magnitudes.bfloat16() @ self.average).float()

    def mix(self, spec: Tensor, heard: Tensor, merged: Tensor, shuffle: bool) -> Batch:
        """Mix a batch of stems (item, source, frame, bin), whose magnitudes are `heard` (item, source, frame, band)."""
        items, sources = heard.shape[:2]
        order = [self.rng.permutation(items) if shuffle else np.arange(items) for _ in range(sources)]
        gains = self.gains(items, sources)  # (item, source, 1)
        merged = merged[order[self.sources.index("other")]]
        if shuffle:  # a foreign bass would be one too many to tell apart
            gains[:, self.sources.index("bass")] *= 1 - merged[:, None]
        fine, coarse = self.curves(gains)  # (item, source, bin), (item, source, band)
        mixture = torch.zeros_like(spec[:, 0])
        for source in range(sources):
            mixture.addcmul_(spec[order[source], source], fine[:, source].unsqueeze(1).to(mixture.dtype))
        targets = torch.stack([heard[order[source], source] for source in range(sources)], 1) * coarse.unsqueeze(2)
        return Batch(self.heard(mixture.abs()).transpose(0, 1), targets.permute(2, 0, 1, 3), merged)

    def gains(self, items: int, sources: int) -> Tensor:
        """Draw how loud every stem is, some not at all, with either sign."""
        rng, mixing = self.rng, self.mixing
        db = rng.normal(0, mixing.gain, (items, sources, 1)) + rng.normal(mixing.level, mixing.master, (items, 1, 1))
        db[:, self.sources.index("vocals")] += mixing.vocals
        present = rng.random((items, sources, 1)) >= mixing.absent
        return torch.from_numpy(10 ** (db / 20) * present * rng.choice([-1, 1], (items, sources, 1))).float()

    def curves(self, gains: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a smooth equaliser for every stem, times its gain: over bins, and its magnitude over bands."""
        points = torch.from_numpy(self.rng.normal(0, self.mixing.equaliser, (*gains.shape[:2], 11))).float()
        fine, coarse = (
            torch.lerp(points[..., at.long()], points[..., at.long() + 1], at.frac()) for at in self.octaves
        )
        return 10 ** (fine / 20) * gains, 10 ** (coarse / 20) * gains.abs()

    def item(self) -> tuple[Tensor, float]:
        """Draw one channel of every stem, (source, time), and whether `other` holds the bass too."""
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
            stems["bass"] = torch.zeros(self.length)
        return torch.stack([stems[source] for source in self.sources]), float(merged)

    def crop(self, path: Path, place: float, ratio: float) -> Tensor:
        """Read a crop of one channel, at a share `place` of the song; a stem that is not there is silent."""
        if not path.exists():
            return torch.zeros(self.length)
        song = np.load(path, mmap_mode="r")
        wanted = self.length if ratio == 1 else int(self.length * ratio) + 4
        start = int(place * max(0, song.shape[1] - wanted))
        x = torch.from_numpy(song[self.rng.integers(song.shape[0]), start : start + wanted].astype(np.float32))
        if ratio != 1:
            x = speed(x[None], ratio)[0, : self.length]
        return torch.nn.functional.pad(x, (0, self.length - len(x)))


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
