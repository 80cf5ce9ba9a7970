"""What goes around in a batch: a song to be done, how its stems are to be written, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from separate.audio.fileset import shown
from separate.audio.formats import OutputFormat, choose_format, supported_rate
from separate.audio.reader import AudioReader
from separate.audio.url import Location
from separate.audio.writer import Clip
from separate.batch.mixdown import Mixdown
from separate.batch.stamp import Stamp
from separate.errors import OutputError, SeparateError

__all__ = ["Job", "Notice", "Output", "Progress", "Result"]

Notice = Callable[[str], None]  # is told what a user may want to know
Progress = Callable[[int, int | None], None]  # is told of samples done, and in all


@dataclass(frozen=True)
class Job:
    """One song and where its stems go."""

    song: str  # as the user named it, perhaps a URL; "-" is standard input
    outputs: dict[str, Location]  # stem -> file
    error: SeparateError | None = None  # why it cannot be done
    skip: bool = False  # it is done already
    replace: bool = False  # files that are there may be overwritten
    why: str = ""  # ... for this reason
    seconds: float | None = None  # how long it is, as far as its header says
    track: str = ""  # what the song is called in templates
    kept: tuple[str, ...] = ()  # stems whose files are there and stay: the others must be as loud beside them

    @property
    def todo(self) -> bool:
        """Whether it is to be done."""
        return not self.error and not self.skip


@dataclass(frozen=True)
class Output:
    """How stems are written, as the user asked for it."""

    format: str = "wav"
    bits: str | None = None  # None: at least the input's
    rate: int | None = None  # None: the input's
    clip: Clip = "rescale"
    start: float = 0.0
    end: float | None = None
    stdout: BinaryIO | None = None  # write the only stem here instead of to its file
    mixdown: Mixdown = field(default_factory=Mixdown)  # what files have in them that are called like no stem

    def format_of(self, song: AudioReader) -> OutputFormat:
        """Choose the format of a song's stems."""
        return choose_format(self.format, self.bits, song.bits, song.is_float)

    def rate_of(self, song: AudioReader) -> int:
        """Choose the rate of a song's stems: the next one that the format has."""
        return supported_rate(self.format_of(song), self.rate or song.rate)

    def channels_of(self, song: AudioReader) -> int:
        """Count the channels of each file, those of all its streams."""
        if self.mixdown.streams > 1 and song.channels > 2:
            raise OutputError(
                f"{shown(song.name)}: has {song.channels} channels, and .stem.mp4 is stereo; leave --stem-mp4 out"
            )
        return song.channels * self.mixdown.streams

    def frames_of(self, song: AudioReader) -> int | None:
        """Count the samples that each stem will have, as far as it is known before."""
        if song.frames is None:
            return None
        last = song.frames if self.end is None else min(song.frames, round(self.end * song.rate))
        return max(0, -(-(last - round(self.start * song.rate)) * self.rate_of(song) // song.rate))


@dataclass
class Result:
    """What became of a song."""

    job: Job
    status: str  # "done", "skipped" or "failed"
    error: SeparateError | None = None
    audio_seconds: float = 0.0
    seconds: float = 0.0
    gain: float = 1.0
    input: Stamp | None = None  # the version of the song that was read; None for a stream
    written: dict[str, Stamp] = field(default_factory=dict)  # stem -> what its file is

    @property
    def song(self) -> str:
        """What the user calls the song."""
        return self.job.song

    @property
    def outputs(self) -> dict[str, Location]:
        """The files that are there now: stem -> file."""
        if self.status == "skipped":
            return self.job.outputs
        return {stem: self.job.outputs[stem] for stem in self.written}
