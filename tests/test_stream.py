"""The stream: whatever the chunks, an identity passes unchanged, and a stop or a lack of memory loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separate.errors import DeviceMemoryError
from separate.stream import MINIMUM, Chunking, Fifo, ahead, fade, out_of_memory, stream


def identity(mix: Tensor) -> Tensor:  # (batch, channel, time)
    return torch.stack([mix, -2 * mix], 1)


def blocks(song: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, song.shape[-1], size):
        yield song[..., start : start + size]


def whole(*args: object, **options: object) -> Tensor:
    return torch.cat(list(stream(*args, **options)), -1)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(
    length=st.integers(1, 5000),
    size=st.integers(1, 3000),
    segment=st.integers(8, 2000),
    context=st.floats(0, 0.45),
    overlap=st.floats(0, 0.95),
    shifts=st.integers(1, 4),
    batch=st.integers(1, 5),
    channels=st.integers(1, 3),
)
def test_identity_passes_any_chunking(
    length: int, size: int, segment: int, context: float, overlap: float, shifts: int, batch: int, channels: int
) -> None:
    torch.manual_seed(0)
    song = torch.rand(channels, length) * 2 - 1
    chunking = Chunking(segment, int(context * segment), overlap, shifts, batch)
    out = whole(blocks(song, size), identity, chunking)
    assert out.shape == (2, channels, length)
    assert (out[0] - song).abs().max() < 1e-6
    assert (out[1] + 2 * song).abs().max() < 2e-6


@settings(max_examples=150, deadline=None)
@given(
    length=st.integers(1, 5000),
    segment=st.integers(8, 2000),
    context=st.floats(0, 0.45),
    overlap=st.floats(0, 0.9),
    shifts=st.integers(1, 2),
    batch=st.integers(1, 5),
    grid=st.integers(1, 30),
    even=st.booleans(),
)
def test_a_model_that_finishes_only_what_is_used_spoils_nothing(
    length: int, segment: int, context: float, overlap: float, shifts: int, batch: int, grid: int, even: bool
) -> None:
    def trimmed(mix: Tensor, used: list[range]) -> Tensor:
        out = torch.full_like(identity(mix), 99)
        for i, part in enumerate(used):
            out[i, ..., part.start : part.stop] = identity(mix)[i, ..., part.start : part.stop]
        return out

    torch.manual_seed(0)
    song = torch.rand(1, length) * 2 - 1
    chunking = Chunking(segment, int(context * segment), overlap, shifts, batch, grid, None, even, trims=True)
    out = whole([song], trimmed, chunking)
    assert out.shape == (2, 1, length)
    assert (out[0] - song).abs().max() < 1e-6
    assert (out[1] + 2 * song).abs().max() < 2e-6


def test_chunks_fade_into_each_other_linearly() -> None:
    """Chunk by chunk 0, 1, 2, ...: where two overlap the output climbs from one number to the next in equal steps."""
    count = iter(range(100))

    def number(mix: Tensor) -> Tensor:
        return torch.ones_like(mix)[:, None] * next(count)

    chunking = Chunking(segment=100, context=10, overlap=0.25, batch=1)
    out = whole([torch.zeros(1, 1000)], number, chunking)[0, 0]
    assert chunking.hop == 60
    assert out[:70].eq(0).all()  # the first chunk alone: its own context counts, the second one's does not
    steps = out[70:90].diff()
    assert steps.min() > 0.04
    assert steps.max() < 0.06
    assert out[90:130].eq(1).all()


def test_contexts_are_heard_but_not_used() -> None:
    """A model that spoils the ends of every chunk spoils nothing but the ends of the song."""

    def spoilt(mix: Tensor) -> Tensor:
        out = mix.clone()
        out[..., :50] = out[..., -50:] = 99
        return out[:, None]

    song = torch.rand(2, 5000)
    out = whole(blocks(song, 77), spoilt, Chunking(segment=500, context=50, overlap=0.0, batch=3))
    assert (out[0] - song)[:, 50:-50].abs().max() < 1e-6
    assert (out[..., :50] - 99).abs().max() < 1e-4


def test_the_last_chunk_has_its_own_length() -> None:
    lengths: list[tuple[int, int]] = []

    def watch(mix: Tensor) -> Tensor:
        lengths.append((mix.shape[0], mix.shape[-1]))
        return mix[:, None]

    whole([torch.rand(2, 300)], watch, Chunking(segment=1000, batch=4))
    whole([torch.rand(2, 2701)], watch, Chunking(segment=1000, overlap=0.5, batch=4))
    whole([torch.rand(2, 2500)], watch, Chunking(segment=1000, overlap=0.5, batch=3))
    assert lengths == [(1, 300), (4, 1000), (1, 701), (3, 1000), (1, 1000)]


@pytest.mark.parametrize(("length", "batch"), [(1000, 4), (1001, 4), (5000, 4), (2701, 4), (2500, 3), (2501, 3)])
def test_even_chunks_are_of_one_length_and_start_on_the_grid(length: int, batch: int) -> None:
    """All but the last fewer-than-grid samples of the last chunk are the song's, and none before it is cut twice."""
    song = torch.arange(1.0, length + 1)[None]
    starts: list[int] = []

    def watch(mix: Tensor) -> Tensor:
        assert mix.shape[-1] == 1000
        for chunk in mix[:, 0]:
            starts.append(int(chunk[0]) - 1)
            there = song[0, starts[-1] : starts[-1] + 1000]
            assert torch.equal(chunk[: len(there)], there)
            assert not chunk[len(there) :].any()
        return mix[:, None]

    chunking = Chunking(segment=1000, context=100, overlap=0.2, batch=batch, grid=64, even=True)
    assert chunking.hop == 640
    torch.testing.assert_close(whole(blocks(song, 300), watch, chunking)[0], song)
    assert starts[:-1] == list(range(0, 640 * (len(starts) - 1), 640))
    assert starts[-1] % 64 == 0
    assert length <= starts[-1] + 1000 < length + 64


def test_a_song_shorter_than_a_chunk_is_one_chunk_of_its_own_length() -> None:
    lengths: list[int] = []

    def watch(mix: Tensor) -> Tensor:
        lengths.append(mix.shape[-1])
        return mix[:, None]

    whole([torch.rand(2, 999)], watch, Chunking(segment=1000, context=100, batch=4, grid=64, even=True))
    assert lengths == [999]


def test_chunks_start_on_the_grid() -> None:
    chunking = Chunking(segment=1024, context=128, overlap=0.1, grid=64)
    assert chunking.hop == 640
    assert Chunking(segment=100, context=0, overlap=0.1, grid=128).hop == 90  # too short for it
    assert Chunking(segment=1024, context=128, overlap=0.1, shifts=3, grid=64).hop == 213


@pytest.mark.parametrize("even", [False, True])
def test_batch_and_blocks_do_not_change_the_result(even: bool) -> None:
    song = torch.rand(2, 30_000)

    def process(mix: Tensor) -> Tensor:  # depends on where a chunk begins, and on nothing else
        return (mix - mix.mean(-1, keepdim=True))[:, None]

    expected = whole([song], process, Chunking(4000, 400, 0.3, 2, batch=1, even=even))
    for batch, size in [(2, 999), (7, 30_000), (50, 1)]:
        out = whole(blocks(song, size), process, Chunking(4000, 400, 0.3, 2, batch, even=even))
        assert torch.equal(out, expected)


@pytest.mark.parametrize("limit", [MINIMUM * 2, MINIMUM * 3, MINIMUM * 9])
@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError])
def test_lack_of_memory_halves_batch_then_segment_and_loses_nothing(limit: int, kind: type[Exception]) -> None:
    said: list[str] = []

    def cramped(mix: Tensor) -> Tensor:
        if mix.shape[0] * mix.shape[-1] > limit:
            raise kind("CUDA out of memory. Tried to allocate 1 GiB")
        return mix[:, None]

    song = torch.rand(2, 300_000)
    chunking = Chunking(segment=MINIMUM * 4, context=5000, overlap=0.2, batch=4)
    out = whole(blocks(song, 10_000), cramped, chunking, say=said.append)
    assert (out[0] - song).abs().max() < 1e-6
    assert "2 instead of 4 chunks" in said[0]
    assert ("samples" in said[-1]) == (limit < MINIMUM * 4)


def test_memory_that_runs_out_late_changes_only_what_comes_after() -> None:
    calls = 0

    def tiring(mix: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 3 and mix.shape[-1] > MINIMUM:
            raise torch.OutOfMemoryError
        return mix[:, None]

    song = torch.rand(1, 400_000)
    out = whole(blocks(song, 7777), tiring, Chunking(MINIMUM * 4, 6000, 0.1, batch=1))
    assert (out[0] - song).abs().max() < 1e-6


def test_no_memory_at_all_is_an_error_that_says_so() -> None:
    def full(mix: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(DeviceMemoryError, match="out of memory with chunks of"):
        whole([torch.rand(2, 100_000)], full, Chunking(MINIMUM * 8, batch=8))


def test_other_errors_of_the_model_are_not_taken_for_lack_of_memory() -> None:
    def broken(mix: Tensor) -> Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        whole([torch.rand(2, 1000)], broken, Chunking(100))


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("fails", [0, 1, 4])
def test_chunks_may_come_one_by_one_and_none_is_computed_twice_when_memory_runs_out(fails: int, even: bool) -> None:
    song, seen = torch.rand(2, 61_000), []

    def one_by_one(mix: Tensor) -> Iterator[Tensor]:
        for i, chunk in enumerate(mix):
            if len(mix) > 3 and i == fails:
                raise torch.OutOfMemoryError("out of memory")
            seen.append(chunk.clone())
            yield chunk[None]

    said: list[str] = []
    chunking = Chunking(segment=10_000, context=1000, overlap=0.1, batch=6, even=even)
    out = whole(blocks(song, 777), one_by_one, chunking, say=said.append)
    assert (out[0] - song).abs().max() < 1e-6
    assert said == ["out of memory: going on with 3 instead of 6 chunks at once"]
    starts = [round(float((song[0] - chunk[0, 0]).abs().argmin())) for chunk in seen]
    assert len(starts) == len(set(starts)) == 9


def test_nothing_is_computed_before_it_is_needed() -> None:
    """Of a batch whose chunks come one by one, the first one's samples come out before the second one is computed."""
    computed = 0

    def one_by_one(mix: Tensor) -> Iterator[Tensor]:
        nonlocal computed
        for chunk in mix:
            computed += 1
            yield chunk[None]

    out = stream([torch.rand(2, 50_000)], one_by_one, Chunking(segment=10_000, overlap=0.1, batch=5))
    assert next(out).shape[-1] > 0
    assert computed == 1


def test_stream_holds_no_more_than_a_batch() -> None:
    """What has been read but not yet come out stays below a batch of chunks, however long the song."""
    read = out = most = 0

    def song() -> Iterator[Tensor]:
        nonlocal read, most
        for _ in range(3000):
            read += 1000
            most = max(most, read - out)
            yield torch.zeros(1, 1000)

    chunking = Chunking(segment=10_000, context=1000, overlap=0.1, batch=3)
    for stems in stream(song(), identity, chunking):
        out += stems.shape[-1]
    assert out == 3_000_000
    assert most <= 3 * 10_000 + 2000


def test_fade_weighs_only_what_is_inside() -> None:
    window = fade(100, 10, 20, 100)
    assert window[:10].eq(0).all()
    assert window[80:].eq(0).all()
    assert window[10:80].gt(0).all()
    assert window.equal(window.flip(0).roll(-10))
    for until in (5, 10, 50, 90):
        assert torch.equal(fade(100, 10, 20, until), window[:until])


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("around", [None, 100])
def test_memory_is_taken_for_the_song_and_not_for_chunks_beyond_it(even: bool, around: int | None) -> None:
    """Of a terabyte each: a chunk, and a batch of chunks."""

    def inside(mix: Tensor, reach: int = 0) -> Tensor:
        return identity(mix[..., reach : mix.shape[-1] - reach])

    song = torch.rand(2, 5000)
    for chunking in (Chunking(2**38, 1000, around=around, even=even), Chunking(2**10, 100, batch=2**28, even=even)):
        out = whole(blocks(song, 300), inside, chunking)
        assert (out[0] - song).abs().max() < 1e-6


def test_fifo_reads_no_further_than_asked() -> None:
    taken = []

    def song() -> Iterator[Tensor]:
        for i in range(10):
            taken.append(i)
            yield torch.full((1, 10), float(i))

    fifo = Fifo(song())
    assert fifo.peek(15).shape == (1, 15)
    assert len(taken) == 2
    fifo.skip(12)
    assert fifo.position == 12
    assert fifo.peek(3)[0].tolist() == [1, 1, 1]
    assert fifo.peek(1000).shape == (1, 88)
    assert fifo.ended


def test_ahead_passes_items_in_order_and_errors_on() -> None:
    def numbers() -> Iterator[int]:
        yield from range(50)
        raise ValueError("after fifty")

    got: list[int] = []
    with pytest.raises(ValueError, match="after fifty"):
        got.extend(ahead(numbers()))
    assert got == list(range(50))


def test_ahead_runs_only_a_little_ahead_and_stops_with_its_reader() -> None:
    made = []
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            for i in range(1000):
                made.append(i)
                yield i
        finally:
            closed.set()

    reader = ahead(numbers(), depth=2)
    assert next(reader) == 0
    time.sleep(0.3)
    assert len(made) <= 4
    reader.close()
    assert closed.is_set()
    assert not [t for t in threading.enumerate() if t.name == "separate-ahead"]


def test_what_a_processor_cannot_do_is_no_lack_of_memory() -> None:
    assert out_of_memory(RuntimeError("could not create a primitive"))
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert not out_of_memory(RuntimeError("could not create a primitive descriptor for the LSTM forward propagation"))
