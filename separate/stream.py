"""A song of any length through a model: blocks -> chunks -> batches -> overlap-add -> blocks.

    |<------- segment ------->|
    |ctx|<---- usable ---->|ctx|          chunk 0: the song begins here, so its first context is usable too
             |ctx|<---- usable ---->|ctx|          chunk 1 starts one hop later
         hop ->|    fade    |                      where usable parts overlap, one fades into the next

Some models are also given what is `around` a chunk, silence beyond the song's ends, and answer with the chunk alone.
Then a chunk begins at every hop, up to the last one before the end, as the authors of Demucs cut songs.

Only what a batch of chunks needs is in memory. The model is any callable from (batch, channel, time) to (batch,
source, channel, time), or to one chunk's stems after the other; nothing here knows an architecture or a file. When the
device runs out of memory the batch is halved, then the segment, and the same samples are tried again: nothing that was
computed is lost.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from separate.errors import DeviceMemoryError

__all__ = ["Chunking", "Fifo", "ahead", "out_of_memory", "stream"]

T = TypeVar("T")
Process = Callable[..., Iterable[Tensor]]


@dataclass(frozen=True)
class Chunking:
    """How a song is cut, in samples."""

    segment: int  # length of a chunk
    context: int = 0  # at either end of it: heard, but not used
    overlap: float = 0.1  # share of a chunk's usable part that the next one computes too
    shifts: int = 1  # compute every sample so many times, in chunks that start at other places, and average
    batch: int = 1  # chunks at once
    grid: int = 1  # chunks start at multiples of it: a model then sees the very frames that it would see of the whole
    around: int | None = None  # samples on either side of a chunk that are given too; None: cut as drawn above
    even: bool = False  # all chunks of a song are of one length: the last one begins earlier instead of being shorter
    trims: bool = False  # the model is told which samples of every chunk are used, and need not finish the others

    @property
    def usable(self) -> int:
        """Samples between the contexts."""
        return self.segment - 2 * self.context

    @property
    def hop(self) -> int:
        """Samples from one chunk's start to the next one's: a multiple of the grid, but for shifts, which leave it."""
        hop = self.usable * (1 - self.overlap)
        aligned = hop // self.grid * self.grid or hop
        return max(1, round(aligned / self.shifts))

    def whole(self, length: int) -> int:
        """Count the whole chunks in so many samples."""
        return max(0, 1 + (length - self.segment) // self.hop)

    def smaller(self) -> Chunking | None:
        """Take half the batch, or else half the segment; None when there is no less."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if self.segment < 2 * MINIMUM:
            return None
        return replace(self, segment=self.segment // 2, context=min(self.context, self.segment // 8))


MINIMUM = 8192  # samples; below this a chunk is no music, and memory is not what it lacks


def stream(
    blocks: Iterable[Tensor],
    process: Process,
    chunking: Chunking,
    *,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = lambda message: None,
) -> Iterator[Tensor]:
    """Yield the stems (source, channel, time) of the song that `blocks` (channel, time) make up, as they get ready.

    The blocks that come out are together as long as those that went in. `say` is told when memory runs out.
    """
    around = () if chunking.around is None else (chunking.around,)
    reach = sum(around)
    song = Fifo(between_silence(blocks, reach))
    out = OverlapAdd()
    position = 0  # of the next chunk
    while True:
        behind = position - song.position  # samples that are still held, for a last chunk that begins earlier
        held = song.peek(behind + (chunking.batch - 1) * chunking.hop + chunking.segment + 2 * reach + 1)
        left = held.shape[-1] - behind - 2 * reach
        if left <= 0:
            return
        chunks, starts = deal(held, behind, chunking, song.ended)
        length = chunks.shape[-1] - 2 * reach
        hops = len(chunks) * chunking.hop
        last = song.ended and left <= (hops + chunking.context if around else starts[-1] + length)
        # Nothing is only context where the song begins and ends; for a chunk that begins earlier, more than usual is.
        before = [chunking.context + i * chunking.hop - start for i, start in enumerate(starts)]
        after = [chunking.context] * len(chunks)
        if position == 0:
            before[0] = 0
        if last:
            after[-1] = 0
        used = [range(begin, min(length, chunking.segment - end)) for begin, end in zip(before, after, strict=True)]
        stems = iterated(process, chunks.to(device), *around, *([used] if chunking.trims else []))
        for i, start in enumerate(starts):
            try:
                stem = next(stems).to("cpu", torch.float32)  # (source, channel, time)
            except (RuntimeError, MemoryError) as error:
                less, hops, last = back_off(chunking, error, say), i * chunking.hop, False
                break
            out.add(stem, position + start, fade(chunking.segment, before[i], after[i], length))
            del stem  # it may be a part of all
            ends = last and i == len(starts) - 1
            yield out.take(position + (left if ends else (i + 1) * chunking.hop + chunking.context))
        else:
            less = chunking
        del chunks, stems  # before the model needs memory again
        if last:
            return
        position, chunking = position + hops, less
        behind = min(position, chunking.segment) if chunking.even else 0
        song.skip(position - behind - song.position)


def iterated(process: Process, *told: Any) -> Iterator[Tensor]:
    """Run the model when its first stems are asked for."""
    yield from process(*told)


def deal(held: Tensor, behind: int, chunking: Chunking, ended: bool) -> tuple[Tensor, list[int]]:
    """Cut the next chunks of a song, (chunk, channel, time), and say where each starts, `behind` samples after `held`.

    What is left at the end is a chunk of its own length: filled up, it would not sound like the song. If all are to be
    `even` it begins so much earlier, and at most what the grid lacks is filled up.
    """
    mix = held[..., behind:]
    left = mix.shape[-1] - 2 * (chunking.around or 0)
    count = min(chunking.batch, chunking.whole(left))
    chunks, starts = cut(mix, chunking, count), [i * chunking.hop for i in range(count)]
    reached = starts[-1] + chunking.segment if count else 0
    if chunking.even and ended and reached < left and count < chunking.batch and held.shape[-1] >= chunking.segment:
        grid = chunking.grid if chunking.hop % chunking.grid == 0 else 1  # where the others do not start on it either
        start = -(-(left - chunking.segment) // grid) * grid
        early = F.pad(held[..., behind + start :], (0, start + chunking.segment - left))
        return torch.cat([chunks, early[None]]), [*starts, start]
    return (chunks, starts) if count else (mix[None], [0])


def cut(mix: Tensor, chunking: Chunking, count: int) -> Tensor:
    """Cut the first `count` chunks of a mix: (channel, time) -> (chunk, channel, time)."""
    if not count:
        return mix.new_empty(0, len(mix), chunking.segment)
    length = chunking.segment + 2 * (chunking.around or 0)
    mix = mix[..., : (count - 1) * chunking.hop + length]
    return mix.unfold(-1, length, chunking.hop).permute(1, 0, 2)


def between_silence(blocks: Iterable[Tensor], length: int) -> Iterator[Tensor]:
    """Put so much silence before a song, and after it."""
    silence = None
    for block in blocks:
        if silence is None:
            silence = block.new_zeros(block.shape[0], length)
            yield silence
        yield block
    if silence is not None:
        yield silence


def fade(length: int, before: int, after: int, until: int) -> Tensor:
    """Weigh a chunk's samples: nothing in its contexts, and between them a triangle that never quite reaches zero.

    Only those before `until` are there: a song may be much shorter than a chunk.
    """
    inside = length - before - after
    ramp = torch.arange(1 - before, until + 1 - before, dtype=torch.float32)
    return torch.minimum(ramp, inside + 1 - ramp).clamp_(min=0).div_(inside)


def back_off(chunking: Chunking, error: BaseException, say: Callable[[str], None]) -> Chunking:
    """Ask less of a device that ran out of memory; any other error goes on its way."""
    if not out_of_memory(error):
        raise error
    less = chunking.smaller()
    if less is None:
        raise DeviceMemoryError(
            f"out of memory with chunks of {chunking.segment} samples: free some memory, or try --device cpu"
        ) from error
    if less.batch < chunking.batch:
        say(f"out of memory: going on with {less.batch} instead of {chunking.batch} chunks at once")
    else:
        say(f"out of memory: going on with chunks of {less.segment} instead of {chunking.segment} samples")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return less


def out_of_memory(error: BaseException) -> bool:
    """Tell whether this is how torch, or Python, says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    if "create a primitive descriptor" in text:  # what this processor cannot do
        return False
    return any(words in text for words in ("out of memory", "can't allocate memory", "could not create a primitive"))


class Held:
    """The last samples of something long, (..., time), in one place that is as large as there ever were many.

    Large tensors of ever other lengths, which live while a model's come and go, would leave holes in memory that fit
    nothing, and the more of them the longer a song is.
    """

    def __init__(self) -> None:
        self.room = torch.zeros(1, 0)
        self.length = 0

    @property
    def samples(self) -> Tensor:
        """Look at all of them, until some are dropped."""
        return self.room[..., : self.length]

    def extend(self, count: int, like: Tensor, space: int = 0) -> Tensor:
        """Append `count` zeros to samples `like` these, in space for so many if there is to be more; look at them."""
        end = self.length + count
        if end > self.room.shape[-1] or self.room.shape[:-1] != like.shape[:-1]:
            # No more than twice as many as there are: a batch may be far longer than the song.
            room = like.new_empty(*like.shape[:-1], max(end, min(space, 2 * end)))
            room[..., : self.length] = self.samples
            self.room = room
        self.length = end
        return self.room[..., end - count : end].zero_()

    def drop(self, count: int) -> None:
        """Forget the first `count`."""
        rest = self.samples[..., count:].clone()
        self.length = rest.shape[-1]
        self.samples.copy_(rest)


class Fifo:
    """The samples of a song from a moving position on, read from its blocks only as far as somebody looks."""

    def __init__(self, blocks: Iterable[Tensor] = ()) -> None:
        self.blocks = iter(blocks)
        self.held = Held()  # (channel, time)
        self.position = 0  # of the first sample held, in the song
        self.ended = False

    @property
    def length(self) -> int:
        """Count the samples held."""
        return self.held.length

    def push(self, block: Tensor, wanted: int = 0) -> None:
        """Append a block (channel, time), on the way to as many samples as are `wanted`."""
        self.held.extend(block.shape[-1], block, wanted + block.shape[-1]).copy_(block)

    def peek(self, count: int) -> Tensor:
        """Look at the next `count` samples (channel, time), or all there are: then `ended` is true.

        The next look, or skip, may put others in their place.
        """
        while self.length < count and not self.ended:
            block = next(self.blocks, None)
            if block is None:
                self.ended = True
            else:
                self.push(block, count)
        return self.held.samples[..., :count]

    def skip(self, count: int) -> None:
        """Forget the next `count` samples."""
        self.held.drop(count)
        self.position += count


class OverlapAdd:
    """Chunks of stems, each times its window, summed and divided by the sum of their windows."""

    def __init__(self) -> None:
        self.start = 0  # position of the first sample held, in the song
        self.sum, self.weight = Held(), Held()  # (source, channel, time), (time,)

    def add(self, stem: Tensor, position: int, window: Tensor) -> None:
        """Add a chunk (source, channel, time) from `position` on; its window weighs its samples."""
        skipped = max(0, self.start - position)  # taken already: the window is zero there
        stem, window = stem[..., skipped:], window[skipped:]
        begin = position + skipped - self.start
        missing = begin + stem.shape[-1] - self.weight.length
        if missing > 0:
            self.sum.extend(missing, stem)
            self.weight.extend(missing, window)
        self.sum.samples[..., begin : begin + stem.shape[-1]].addcmul_(stem, window)
        self.weight.samples[begin : begin + stem.shape[-1]] += window

    def take(self, until: int) -> Tensor:
        """Hand out what is finished: all samples before position `until`, (source, channel, time)."""
        count = max(0, until - self.start)  # negative right after a back-off, whose chunks have less context
        done = self.sum.samples[..., :count] / self.weight.samples[:count]
        self.sum.drop(count)
        self.weight.drop(count)
        self.start += count
        return done


def ahead(items: Iterable[T], depth: int = 2) -> Generator[T]:
    """Iterate in a thread of its own, up to `depth` items before they are asked for.

    An error in the thread comes out here. Whoever stops early stops the thread too.
    """
    full: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, value: Any = None) -> bool:
        while not stop.is_set():
            try:
                full.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put("item", item):
                    return
            put("end")
        except BaseException as error:  # carried over to the thread that asked
            put("error", error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, daemon=True, name="separate-ahead")
    thread.start()
    try:
        while True:
            kind, value = full.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    except KeyboardInterrupt:
        stop.set()  # nobody who pressed Ctrl-C wants to wait until the model's batch is through
        raise
    finally:
        interrupted = stop.is_set()
        stop.set()
        if not interrupted:
            thread.join()
