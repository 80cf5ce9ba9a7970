"""The formats of audio files: what each can hold, and which one a song becomes.

| name | container      | bits             | who writes it                                   |
| ---- | -------------- | ---------------- | ----------------------------------------------- |
| wav  | RIFF or RF64   | 16, 24, 32,float | separate.audio.wav                              |
| flac | FLAC           | 16, 24           | libsndfile                                      |
| ogg  | Ogg Vorbis     | lossy            | libsndfile, quality 8 of 10, ~ 280 kbit/s       |
| opus | Ogg Opus       | lossy            | libsndfile, 128 kbit/s a channel                |
| mp3  | MPEG layer III | lossy            | libsndfile, constant 320 kbit/s (160 up to 24 kHz) |
| m4a  | MP4, AAC-LC    | lossy            | ffmpeg's libraries, 128 kbit/s a channel        |

and stem.mp4, which is no format of stems but one of all of them together: separate.audio.stem_mp4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from separate.errors import OutputError, UsageError

__all__ = [
    "CONTAINERS",
    "OGG_ORDER",
    "STEM_MP4",
    "Bits",
    "Container",
    "OutputFormat",
    "check_channels",
    "choose_format",
    "supported_rate",
]

Bits = Literal[16, 24, 32, "float"]


@dataclass(frozen=True)
class Container:
    """One row of the table: what files of this name can hold."""

    name: str
    bits: tuple[Bits, ...]  # empty: a lossy codec, which has no bit depth
    rates: Sequence[int]
    channels: int  # at most
    empty: bool = False  # whether common readers take a file without samples


_MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

CONTAINERS = {
    row.name: row
    for row in (
        Container("wav", (16, 24, 32, "float"), range(1, 2**32), 1024, empty=True),
        Container("flac", (16, 24), range(1, 655_351), 8),
        Container("ogg", (), range(8_000, 192_001), 8, empty=True),
        Container("opus", (), (8_000, 12_000, 16_000, 24_000, 48_000), 8),
        Container("mp3", (), _MPEG_RATES, 2),
        Container("m4a", (), (*_MPEG_RATES, 64_000, 88_200, 96_000), 6),
    )
}

STEM_MP4 = Container("stem.mp4", (), (44_100, 48_000), 10)  # five streams, one above the other


OGG_ORDER = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 4, 5, 3),
    7: (0, 2, 1, 5, 6, 4, 3),
    8: (0, 2, 1, 6, 7, 4, 5, 3),
}
"""Channel i of an Ogg file is channel OGG_ORDER[channels][i] of a WAV or FLAC file; libsndfile keeps each as it is.

Inside separate channels are in the order of WAV and FLAC: FL FR FC LFE BL BR; 7 and 8 add the sides.
"""


@dataclass(frozen=True)
class OutputFormat:
    """The format that the stems of a song are written in."""

    container: Container
    bits: Bits | None  # None: a lossy codec

    @property
    def name(self) -> str:
        """The name on the command line."""
        return self.container.name

    @property
    def suffix(self) -> str:
        """The end of a file's name, with its dot."""
        return f".{self.container.name}"

    @property
    def lossy(self) -> bool:
        """Whether a decoder gives other samples than were encoded."""
        return self.bits is None

    @property
    def bounded(self) -> bool:
        """Whether samples beyond -1 and 1 are cut off: by the file, or by whoever decodes a lossy one."""
        return self.bits != "float"

    def __str__(self) -> str:
        if self.bits is None:
            return self.name
        return f"{self.name} with {'float samples' if self.bits == 'float' else f'{self.bits} bits'}"


def choose_format(name: str, bits: str | None, source_bits: int, source_is_float: bool) -> OutputFormat:
    """Choose the output's format: `bits` if it is given, else at least as many as the input has.

    Raises:
        UsageError: there is no such format, or it has no such bit depth.
    """
    container = (CONTAINERS | {STEM_MP4.name: STEM_MP4}).get(name.lower().removeprefix("."))
    if container is None:
        raise UsageError(f"--format {name!r}: there is no such format; choose one of {', '.join(CONTAINERS)}")
    if bits is None:
        return OutputFormat(container, _deep_enough(container, source_bits, source_is_float))
    for depth in container.bits:
        if str(depth) == bits.lower():
            return OutputFormat(container, depth)
    if not container.bits:
        raise UsageError(f"--bits {bits}: {container.name} is lossy and has no bit depth; leave --bits out")
    possible = ", ".join(map(str, container.bits))
    others = [row.name for row in CONTAINERS.values() if bits in map(str, row.bits)]
    instead = f", or --format {' or '.join(others)}" if others else ""
    raise UsageError(f"--bits {bits}: {container.name} takes {possible}; choose one of them{instead}")


def _deep_enough(container: Container, source_bits: int, source_is_float: bool) -> Bits | None:
    """Return the smallest depth that holds the input's samples, or the deepest there is."""
    if source_is_float and "float" in container.bits:
        return "float"
    for depth in container.bits:
        if depth != "float" and depth >= source_bits and not source_is_float:
            return depth
    return max((depth for depth in container.bits if depth != "float"), default=None)


def supported_rate(format: OutputFormat, rate: int) -> int:
    """Return the lowest rate that the format takes and that holds all of `rate`, or the highest it takes."""
    rates = format.container.rates
    if isinstance(rates, range):
        return min(max(rate, rates[0]), rates[-1])
    return next((possible for possible in rates if possible >= rate), rates[-1])


def check_channels(format: OutputFormat, channels: int, name: str) -> None:
    """Raise OutputError, naming the file and the formats that can, if the format does not take so many channels."""
    if 1 <= channels <= format.container.channels:
        return
    able = [row.name for row in CONTAINERS.values() if channels <= row.channels]
    instead = f"; choose --format {' or '.join(able)}" if able else ""
    takes = f"{format.name} takes 1 to {format.container.channels} channels"
    raise OutputError(f"{name}: cannot be written: {takes}, not {channels}{instead}")
