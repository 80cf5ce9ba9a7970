"""Standard MIDI files, as far as notes go: which, when, how long and how hard."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from separate.errors import InputError

__all__ = ["Note", "Score", "read_midi"]

_DATA_BYTES = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}  # of a channel message, by its upper four bits
_META, _TEMPO, _NAME = 0xFF, 0x51, 0x03


@dataclass(frozen=True)
class Note:
    """A note: seconds, MIDI pitch (60 = middle C), velocity from 0 to 1."""

    start: float
    length: float
    pitch: int
    velocity: float


@dataclass(frozen=True)
class Score:
    """The notes of a file by the name of their track, and its first tempo."""

    tracks: dict[str, list[Note]]
    beat: float  # seconds

    @property
    def end(self) -> float:
        """When the last note ends, in seconds."""
        return max((note.start + note.length for notes in self.tracks.values() for note in notes), default=0.0)


def read_midi(path: str | os.PathLike[str]) -> Score:
    """Read the notes of the MIDI file at `path`."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return _score(data)
    except (IndexError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a MIDI file, or a damaged one") from error


def _score(data: bytes) -> Score:
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"MThd":
        raise ValueError("no header")
    division = int.from_bytes(chunks[0][1][4:6], "big")
    if not 0 < division < 0x8000:
        raise ValueError("time is not counted in beats")
    tracks = [list(_events(body)) for kind, body in chunks if kind == b"MTrk"]
    events = sorted((tick, kind, body) for track in tracks for tick, kind, body in track)
    tempi = [(tick, int.from_bytes(body, "big")) for tick, kind, body in events if kind == _TEMPO]
    clock = _Clock(tempi, division)
    named: dict[str, list[Note]] = {}
    for number, track in enumerate(tracks):
        name = next((body.decode("latin-1") for _, kind, body in track if kind == _NAME), str(number))
        notes = named.setdefault(name, [])
        notes += _notes(track, clock)
    return Score({name: notes for name, notes in named.items() if notes}, clock.rates[0] * division)


class _Clock:
    """Ticks to seconds, through every change of tempo."""

    def __init__(self, tempi: list[tuple[int, int]], division: int) -> None:
        if not tempi or tempi[0][0] > 0:
            tempi = [(0, 500_000), *tempi]  # 120 beats a minute, until told otherwise
        self.ticks = [tick for tick, _ in tempi]
        self.rates = [microseconds * 1e-6 / division for _, microseconds in tempi]  # seconds a tick
        self.times = [0.0]
        for i in range(1, len(tempi)):
            self.times.append(self.times[-1] + (self.ticks[i] - self.ticks[i - 1]) * self.rates[i - 1])

    def __call__(self, tick: int) -> float:
        i = bisect_right(self.ticks, tick) - 1
        return self.times[i] + (tick - self.ticks[i]) * self.rates[i]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "big")
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; return it and where it ends."""
    value = 0
    for end in range(at + 1, at + 5):
        byte = data[end - 1]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, end
    raise ValueError("a number of more than four bytes")


def _events(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (tick, kind, body): the status byte of a channel message, or the type of a meta event."""
    at, tick, status = 0, 0, 0
    while at < len(data):
        wait, at = _number(data, at)
        tick += wait
        if data[at] >= 0x80:  # otherwise the last status goes on: "running status"
            status = data[at]
            at += 1
        if status < 0x80:
            raise ValueError("a message of no kind")
        if status >= 0xF0:  # meta events and system messages say their length
            kind = data[at] if status == _META else status
            size, at = _number(data, at + (status == _META))
            if status == _META:
                yield tick, kind, data[at : at + size]
        else:
            size = _DATA_BYTES[status >> 4]
            yield tick, status, data[at : at + size]
        at += size


def _notes(events: list[tuple[int, int, bytes]], clock: _Clock) -> list[Note]:
    notes, held = [], dict[tuple[int, int], tuple[int, int]]()
    for tick, kind, body in events:
        if kind >> 4 not in (0x8, 0x9):
            continue
        key = (kind & 0xF, body[0])
        if key in held:  # released, or struck again
            start, velocity = held.pop(key)
            notes.append(Note(clock(start), clock(tick) - clock(start), body[0], velocity / 127))
        if kind >> 4 == 0x9 and body[1]:
            held[key] = tick, body[1]
    return sorted(notes, key=lambda note: (note.start, note.pitch))
