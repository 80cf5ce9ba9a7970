"""The sentence of the house, in code: a song is read, cut into chunks, separated, and comes out as stems."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from math import log2
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separate.audio.reader import AudioReader
from separate.audio.resample import Resampler
from separate.checkpoints.cards import terms
from separate.checkpoints.registry import FREE
from separate.checkpoints.resolve import licence_of, resolve
from separate.checkpoints.weights import load, read_header
from separate.device import choose_device, choose_dtype, worthwhile
from separate.errors import UnknownStem, UsageError
from separate.models import MIXTURE
from separate.part import Part, Song, beside, check_finite, check_samples, part_of, share_rest
from separate.stream import MINIMUM, Chunking, ahead, stream

__all__ = ["ArraySong", "Separator", "Stems", "separate"]

Array = NDArray[np.float32]
Stems = dict[str, Array]  # each (channel, time)

OVERLAP = 0.1  # of chunks, of a model that does not say
GRID = 8192  # samples: where chunks start of a model that does not say: a multiple of the usual hop and of dilations
LONGEST = 3600  # seconds of a chunk
BATCH = {"cpu": 4, "cuda": 8}  # chunks at once: enough to fill the matrix units, little enough to fit


@dataclass(frozen=True)
class ArraySong:
    """A song that is in memory: samples (channel, time), or (time,) for mono, floats between -1 and 1."""

    samples: NDArray[Any]
    rate: int
    name: str = "array"

    @property
    def channels(self) -> int:
        """Count the channels."""
        return 1 if self.samples.ndim == 1 else self.samples.shape[0]

    def blocks(self, start: int = 0, stop: int | None = None, size: int = 65536) -> Iterator[Array]:
        """Yield the samples from `start` to `stop` as blocks (channel, time)."""
        samples = np.atleast_2d(self.samples)
        check_samples(samples, self.name)
        samples = samples[:, start:stop].astype(np.float32, copy=False)
        check_finite(samples, self.name)
        for begin in range(0, samples.shape[1], size):
            yield samples[:, begin : begin + size]


class Separator:
    """A model on a device, ready for any number of songs.

    Args:
        model: a name from `separate models`, a path to a `.safetensors`, `hf:user/repo/file`, or a model object.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps"; a torch.device will do, too.
        precision: "float32", "bfloat16", "float16", or "auto": whatever is fast on the device and not heard.
        segment: seconds of a chunk, up to an hour; the model knows what suits it.
        overlap: share of a chunk that the next one computes too, 0 to 0.95; the model knows what suits it.
        shifts: compute everything so many times, in chunks that start at other places, and average.
        batch: chunks at once.
        wiener: iterations of the Wiener filter; 0 takes ratio masks instead. For models that have one.
        griffin_lim: iterations of Griffin-Lim instead of the mixture's phase. For models that have it.
        say: is told, in a line each, what a user may want to know.

    >>> separator = Separator("d2-gru", device="cpu")  # doctest: +SKIP
    >>> stems = separator.separate("song.wav")         # doctest: +SKIP
    >>> stems["vocals"].shape                          # doctest: +SKIP
    (2, 9922500)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Any = "d2-gru",
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
        segment: float | None = None,
        overlap: float | None = None,
        shifts: int = 1,
        batch: int | None = None,
        wiener: int | None = None,
        griffin_lim: int | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.device = choose_device(str(device))
        self.dtype = choose_dtype(precision, self.device)
        self.say = say
        if worthwhile(self.dtype, self.device) != self.dtype:
            say(
                f"{self.device} has to imitate {precision}, which takes longer than float32: --precision auto is faster"
            )
        post = {"wiener": wiener, "griffin_lim": griffin_lim}
        if isinstance(model, str | os.PathLike):
            check_post(post)
            path = resolve(model)
            name = os.fspath(model)
            if (licence := licence_of(name, read_header(path).licence)) not in FREE:
                say(f"{name}: {terms(licence)} (licence: {licence})")
            with torch.device("cpu"):  # torch's default device may be another, and its default type float64
                model = load(path, **{name: value for name, value in post.items() if value is not None}).float()
        elif wiener is not None or griffin_lim is not None:
            raise UsageError("wiener and griffin_lim are settings of a checkpoint; set them in the model object itself")
        # Dropout and batch norms of one's own model may be set to train still.
        self.model: Any = model.to(self.device).eval() if isinstance(model, torch.nn.Module) else model
        self.sources: tuple[str, ...] = tuple(model.sources)
        self.sample_rate: int = model.sample_rate
        self.sums: bool = model.sums
        self.chunking = choose_chunking(
            self.model,
            segment,
            overlap,
            shifts,
            getattr(model, "batch", BATCH.get(self.device.type, 4)) if batch is None else batch,
        )

    def separate(
        self,
        song: str | os.PathLike[str] | BinaryIO | Song,
        *,
        stems: Sequence[str] | None = None,
        start: float = 0.0,
        end: float | None = None,
        rate: int | None = None,
    ) -> Stems:
        """Separate a song that fits in memory: stem name -> samples (channel, time), as long as the song.

        `stems` are the ones wanted, and "mixture" the song itself, sample by sample beside them; `start` and `end`
        seconds of a part, `rate` the result's in Hz (default: the song's).
        """
        parts: list[Stems] = []
        with closing(self.stream(song, stems=stems, start=start, end=end, rate=rate)) as blocks:
            parts.extend(blocks)
        return {name: np.concatenate([part[name] for part in parts], axis=1) for name in self.chosen(stems)}

    def stream(
        self,
        song: str | os.PathLike[str] | BinaryIO | Song,
        *,
        stems: Sequence[str] | None = None,
        start: float = 0.0,
        end: float | None = None,
        rate: int | None = None,
    ) -> Generator[Stems]:
        """Separate a song of any length: yield block after block of its stems, in bounded memory.

        Arguments are those of `separate`. Reading runs in a thread of its own, ahead of the caller, and so does a model
        on a card.
        """
        chosen = {name: (*self.sources, MIXTURE).index(name) for name in self.chosen(stems)}
        if isinstance(song, str | os.PathLike) or hasattr(song, "read"):
            opened: Any = AudioReader(song)  # type: ignore[arg-type]
        elif hasattr(song, "blocks"):
            opened = nullcontext(song)
        else:
            raise UsageError(f"a song is a path, an open file or an ArraySong(samples, rate), not {type(song)}")
        with opened as open_song:
            # A part is separated with as much music around it as a chunk has, half on either side, and then cut out.
            part = part_of(open_song, start, end, self.chunking.segment / self.sample_rate / 2, rate)
            stems_of_part = self._stems(part, MIXTURE in chosen)
            # A card computes while the caller writes. A processor's cores all work for the model anyway, and beside the
            # caller's threads OpenMP would send the model's to sleep at every step: recurrent nets take twice the time.
            # A default device of torch's that is no processor holds for the caller's thread; another one is free of it.
            here = self.device.type == torch.get_default_device().type == "cpu"
            with closing(stems_of_part if here else ahead(stems_of_part)) as blocks:
                for block in blocks:
                    yield {name: block[i].numpy() for name, i in chosen.items()}
            for warning in getattr(open_song, "warnings", ()):
                self.say(f"{open_song.name}: {warning}")

    def chosen(self, stems: Sequence[str] | None) -> tuple[str, ...]:
        """Check the names of wanted stems; None stands for all, and "mixture" for the song itself beside them."""
        if stems is None:
            return self.sources
        stems = [stems] if isinstance(stems, str) else stems
        for name in stems:
            if name not in (*self.sources, MIXTURE):
                raise UnknownStem(f"no stem {name!r} in this model: it separates {', '.join(self.sources)}")
        if not stems:
            raise UsageError(f"no stems asked for: choose from {', '.join(self.sources)}")
        return tuple(dict.fromkeys(stems))

    def _stems(self, part: Part, with_mixture: bool) -> Generator[Tensor]:
        """Yield blocks (source, channel, time) of all stems of a part of a song, and of its mixture if it is wanted."""
        share = self.sums and part.target == part.rate != self.sample_rate
        sent: queue.SimpleQueue[Tensor | None] = queue.SimpleQueue()  # the song as read, until its stems are ready
        with closing(ahead(self._mixture(part, sent.put if share or with_mixture else None))) as mixture:
            blocks: Iterator[Tensor] = self._separated(mixture, part.target)
            if share or with_mixture:
                pairs = beside(blocks, sent, Resampler(part.rate, part.target))
                blocks = (torch.cat([share_rest(*pair) if share else pair[0], pair[1][None]]) for pair in pairs)
            yield from part.cut(blocks)

    def _mixture(self, part: Part, sent: Callable[[Tensor | None], None] | None) -> Generator[Tensor]:
        """Read a part at the model's rate: blocks (channel, time)."""
        resampler = Resampler(part.rate, self.sample_rate)
        for block in part.blocks(sent):
            yield resampler.process(block)
        yield resampler.flush()

    def _separated(self, mixture: Iterator[Tensor], rate: int) -> Generator[Tensor]:
        """Run the model over a mixture at its own rate; stems come out at `rate`."""
        resampler = Resampler(self.sample_rate, rate)
        for block in stream(mixture, self._process, self.chunking, device=self.device, say=self.say):
            yield self._apart(resampler.process(block.flatten(0, 1)))
        yield self._apart(resampler.flush())

    def _apart(self, rows: Tensor) -> Tensor:
        """Undo the flattening that the resampler needs: (source · channel, time) -> (source, channel, time)."""
        sources = len(self.sources)
        return rows.reshape(sources, rows.shape[0] // sources, rows.shape[1])

    def _process(self, mix: Tensor, *told: Any) -> Iterable[Tensor]:
        """Run the model on a batch of chunks: (batch, channel, time) -> (batch, source, channel, time).

        More than two channels are separated in pairs, first and second, third and fourth, and so on; a last odd one
        alone. So every model takes every layout.
        """
        if mix.shape[1] <= 2 and hasattr(self.model, "each"):
            return self._each(self.model.each(mix, *told))
        with self._inference():
            pairs = [self.model(mix[:, i : i + 2], *told) for i in range(0, mix.shape[1], 2)]
            return torch.cat(pairs, 2) if len(pairs) > 1 else pairs[0]

    def _each(self, stems: Iterator[Tensor]) -> Iterator[Tensor]:
        """Run a model that finishes its chunks one after the other; the caller between them is none of its business."""
        while True:
            with self._inference():
                stem = next(stems, None)
            if stem is None:
                return
            yield stem

    @contextmanager
    def _inference(self) -> Iterator[None]:
        low = self.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype) if low else nullcontext():
            yield


def choose_chunking(model: Any, segment: float | None, overlap: float | None, shifts: int, batch: int) -> Chunking:
    """Turn the options, in seconds, into a Chunking, in samples at the model's rate."""
    overlap = getattr(model, "overlap", OVERLAP) if overlap is None else overlap
    if not 0 <= overlap <= 0.95:
        raise UsageError(f"overlap is a share from 0 to 0.95, not {overlap:g}")
    if shifts < 1 or batch < 1:
        raise UsageError(f"shifts and batch count from 1, not {shifts} and {batch}")
    seconds = model.segment if segment is None else segment
    if not 0 <= seconds <= LONGEST:
        raise UsageError(f"a segment of {seconds:g} s is out of range: at most {LONGEST} s, an hour")
    samples = round(seconds * model.sample_rate)
    if samples < MINIMUM:
        raise UsageError(f"a segment of {seconds:g} s is too short: at least {MINIMUM / model.sample_rate:.2f} s")
    grid = getattr(model, "grid", GRID)
    if grid > samples / 16:
        grid = 2 ** int(log2(samples / 16))
    samples -= samples % grid
    context = min(round(model.context * model.sample_rate), samples // 4)
    context = -(-context // grid) * grid
    around, even, trims = (getattr(model, name, None) for name in ("around", "even", "trims"))
    if even and around is not None:
        raise UsageError(f"a model that takes around = {around} samples cannot be even, too: leave one of the two out")
    return Chunking(samples, context, overlap, shifts, batch, grid, around, bool(even), bool(trims))


def check_post(post: dict[str, int | None]) -> None:
    """Refuse what contradicts itself in the post-processing options."""
    for name, value in post.items():
        if value is not None and value < 0:
            raise UsageError(f"{name} counts iterations from 0, not {value}")
    if post["wiener"] and post["griffin_lim"]:
        raise UsageError("wiener and griffin_lim exclude each other: one keeps the mixture's phase, one replaces it")


def separate(
    song: str | os.PathLike[str] | BinaryIO | Song, model: str | os.PathLike[str] | Any = "d2-gru", **options: Any
) -> Stems:
    """Separate one song: `separate("song.wav")["vocals"]` is an array (channel, time). Options are Separator's.

    For more than one song make a Separator, which keeps its model.
    """
    return Separator(model, **options).separate(song)
