"""Stems for training: crops of a pool's songs, drawn at random. What is drawn depends on the seed and the step only."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from separate.training.augment import speed
from separate.training.config import Mixing
from separate.training.pool import Pool, Song

__all__ = ["Mixer", "Stems", "WaveMixer", "Waves", "prefetched", "random_gains", "soft_clipped"]

Sources = tuple[str, ...]
Order = list[np.ndarray]  # source s of song i comes from song order[s][i]


@dataclass(frozen=True)
class Stems:
    """What was drawn."""

    waves: Tensor  # (song, source, channel, time)
    groups: Tensor  # (song, group, source): ones where sources are known only as the sum of their group
    limits: Tensor  # (song, source): Hz; nothing is known of what is above


@dataclass(frozen=True)
class Waves:
    """A batch of mixes, as waveforms."""

    mixture: Tensor  # (item, channel, time)
    stems: Tensor  # (item, source, channel, time)
    groups: Tensor  # (item, group, source)
    limit: Tensor  # (item): Hz
    rate: int
    step: int = 0

    @property
    def items(self) -> int:
        """How many mixes there are."""
        return len(self.mixture)

    def split(self, pieces: int) -> list[Waves]:
        """Deal the items out to `pieces` batches, or to one each if there are fewer."""
        pieces, tensors = min(pieces, self.items), (self.mixture, self.stems, self.groups, self.limit)
        parts = zip(*(x.tensor_split(pieces) for x in tensors), strict=True)
        return [Waves(mix, stems, groups, limit, self.rate, self.step) for mix, stems, groups, limit in parts]


class Mixer:
    """Draws the stems of one rank's share of a batch.

    Reading costs much, so what has been drawn may serve for several batches, its `turns`, with its stems dealt out anew
    in all but the first.
    """

    def __init__(self, pool: Pool, mixing: Mixing, seed: int, rank: int = 0, world: int = 1) -> None:
        self.pool, self.mixing, self.seed = pool, mixing, seed
        self.items = range(rank, mixing.batch, world)
        self.mine = slice(rank, None, world)  # of what is drawn for the whole batch
        self.length = int(mixing.seconds * pool.rate)

    def draw(self, step: int) -> Stems:
        """Draw songs for the turn that `step` is in."""
        turn = step // self.mixing.turns
        songs = [self.song(np.random.default_rng((self.seed, turn, item))) for item in self.items]
        return Stems(*(torch.stack(parts) for parts in zip(*songs, strict=True)))

    def rng(self, step: int) -> np.random.Generator:
        """Make the generator of what is drawn for whole batches, by every rank alike, to take its items from."""
        return np.random.default_rng((self.seed, step))

    def order(self, groups: Tensor, step: int) -> Order:
        """Say which song each source is taken from: its own, or in later turns one of which the same is known."""
        order = [np.arange(len(groups)) for _ in self.pool.sources]
        if step % self.mixing.turns:
            rng = np.random.default_rng((self.seed, step, self.items.start))
            kinds = np.unique(groups.flatten(1).cpu().numpy(), axis=0, return_inverse=True)[1].reshape(-1)
            alike = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
            for source in order:
                for songs in alike:
                    source[songs] = rng.permutation(songs)
        return order

    def song(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw one song: (source, channel, time), (group, source), (source)."""
        pool, mixing = self.pool, self.mixing
        first, place = pool.draw(rng, mixing.songs), rng.random()
        together = rng.random() < mixing.together
        ratio = 2 ** (rng.normal(0, 1.5) / 12) if rng.random() < mixing.varispeed else 1.0
        count = len(pool.sources)
        waves = torch.zeros(count, 2, self.length, device=pool.device)
        groups, limits = torch.zeros(count, count), torch.full((count,), pool.rate / 2)
        for part in pool.parts[first.folder]:
            known = [pool.sources.index(source) for source in part.sources]
            groups[known[-1], known] = 1  # a group is numbered, and its sum kept, as the last of its sources
            if not part.files:
                continue
            song, at = first, place
            if not together:
                song, at = pool.draw(rng, mixing.songs, part.sources), rng.random()
            waves[known[-1]] = self.crop(song, pool.part(song, part.sources).files, at, ratio, rng)
            limits[known] = song.limit * min(ratio, 1.0)
        if rng.random() < mixing.mono:
            waves = waves.mean(1, keepdim=True).expand_as(waves)
        return waves, groups.to(pool.device), limits.to(pool.device)

    def crop(self, song: Song, files: tuple[str, ...], place: float, ratio: float, rng: np.random.Generator) -> Tensor:
        """Read a crop, (channel, time), at a share `place` of the song, and vary what costs nothing to vary."""
        mixing = self.mixing
        wanted = self.length if ratio == 1 else int(self.length * ratio) + 4
        x = self.pool.read(song, files, int(place * max(0, song.length - wanted)), wanted, mixing.natural)
        if ratio != 1:
            x = speed(x, ratio)[:, : self.length]
        x = F.pad(x, (0, self.length - x.shape[1]))
        x = x[:2] if len(x) > 1 else x.expand(2, -1)
        if rng.random() < mixing.swap:
            x = x.flip(0)
        if rng.random() < mixing.width:
            x = torch.lerp(x.mean(0), x, float(rng.uniform(0, 1.5)))
        return x


def random_gains(mixing: Mixing, rng: np.random.Generator, sources: Sources) -> Tensor:
    """Draw how loud every stem is, some not at all, with either sign, and some to one side: (song, source, 2)."""
    shape = mixing.batch, len(sources), 1
    db = rng.normal(0, mixing.gain, shape) + rng.normal(mixing.level, mixing.master, (mixing.batch, 1, 1))
    if "vocals" in sources:
        db[:, sources.index("vocals")] += mixing.vocals
    aside = rng.normal(0, mixing.pan, shape) * (rng.random(shape) < mixing.panned)
    factor = rng.uniform(*mixing.scale, shape) * (rng.random(shape) >= mixing.absent)
    factor *= np.where(rng.random(shape) < mixing.sign, -1, 1)
    return torch.from_numpy(10 ** ((db + aside * np.array([-1, 1])) / 20) * factor).float()


class WaveMixer:
    """Mixes waveforms: step -> batch."""

    def __init__(self, mixer: Mixer) -> None:
        self.mixer = mixer
        self.drawn: tuple[int, Stems] | None = None

    def __call__(self, step: int) -> Waves:
        """Mix the batch of a step."""
        mixer, turn = self.mixer, step // self.mixer.mixing.turns
        if self.drawn is None or self.drawn[0] != turn:
            self.drawn = turn, mixer.draw(step)
        stems, rng = self.drawn[1], mixer.rng(step)
        order = mixer.order(stems.groups, step)
        waves = torch.stack([stems.waves[of, source] for source, of in enumerate(order)], 1)
        limits = torch.stack([stems.limits[of, source] for source, of in enumerate(order)], 1)
        if mixer.mixing.peak:
            waves = waves * (mixer.mixing.peak / waves.abs().amax((2, 3), keepdim=True).clamp(min=1e-4))
        gains = random_gains(mixer.mixing, rng, mixer.pool.sources)[mixer.mine]
        waves = waves * gains.to(waves.device)[..., None]
        clipped = torch.from_numpy(rng.random(mixer.mixing.batch) < mixer.mixing.clip)
        drive = torch.from_numpy(rng.uniform(1.5, 4, mixer.mixing.batch)).float().where(clipped, 0)[mixer.mine]
        waves = soft_clipped(waves, drive.to(waves.device)) if bool(drive.any()) else waves
        return Waves(waves.sum(1), waves, stems.groups, limits.amin(1), mixer.pool.rate, step)


def soft_clipped(waves: Tensor, drive: Tensor) -> Tensor:
    """Clip whole mixes, tanh(drive · x) with x at most 1 before, and turn their stems down by as much at every sample.

    So stems still sum to the mix. A drive of 0 does nothing.
    (song, source, channel, time), (song) -> (song, source, channel, time).
    """
    mixture = waves.sum(1, keepdim=True)
    x = mixture / mixture.abs().amax((2, 3), keepdim=True).clamp(min=1e-4) * drive[:, None, None, None]
    return waves * torch.where(x.abs() < 1e-4, 1.0, x.tanh() / x)


T = TypeVar("T")


def prefetched(make: Callable[[int], T], first: int, ahead: int = 4) -> Generator[T, None, None]:
    """Make batches `first`, `first` + 1, … in a thread of its own, `ahead` before they are asked for.

    Closing the iterator ends the thread.
    """
    ready: queue.Queue[T | Exception] = queue.Queue(ahead)
    stop = threading.Event()

    def work() -> None:
        torch.set_num_threads(1)
        step = first
        try:
            while not stop.is_set():
                ready.put(make(step))
                step += 1
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
