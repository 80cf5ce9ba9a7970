"""Who does it: this process, one song after the other. A song that fails never stops the rest."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from math import log10
from pathlib import Path
from typing import BinaryIO

from separate.audio.formats import Bits, OutputFormat, choose_format, supported_rate
from separate.audio.reader import AudioReader
from separate.audio.wav import WavStream
from separate.audio.writer import Clip, StemWriter
from separate.batch.plan import Job
from separate.errors import OutputExists, SeparateError
from separate.separator import Separator, Stems

__all__ = ["Output", "Result", "run"]


@dataclass(frozen=True)
class Output:
    """How stems are written, as the user asked for it."""

    format: str = "wav"
    bits: str | None = None  # None: at least the input's
    rate: int | None = None  # None: the input's
    clip: Clip = "rescale"
    start: float = 0.0
    end: float | None = None
    existing: str = "refuse"  # or "force" or "skip"
    stdout: BinaryIO | None = None  # write the only stem here instead of to its file


@dataclass
class Result:
    """What became of a song."""

    song: str
    status: str  # "done", "skipped" or "failed"
    outputs: dict[str, Path] = field(default_factory=dict)
    error: SeparateError | None = None
    audio_seconds: float = 0.0
    seconds: float = 0.0
    gain: float = 1.0


Notice = Callable[[str], None]
Progress = Callable[[int, int | None], None]  # samples done, samples in all


def run(
    jobs: Sequence[Job],
    separator: Separator,
    output: Output,
    *,
    notice: Notice = lambda message: None,
    progress: Callable[[Job], Progress] = lambda job: lambda done, total: None,
) -> Iterator[Result]:
    """Do the jobs, yielding each one's result as it is done. `notice` is told what a user may want to know."""
    for job in jobs:
        begun = time.monotonic()
        try:
            if job.error:
                raise job.error
            result = do(job, separator, output, notice, progress(job))
        except SeparateError as error:
            result = Result(job.song, "failed", error=error)
        result.seconds = time.monotonic() - begun
        yield result


def do(job: Job, separator: Separator, output: Output, notice: Notice, progress: Progress) -> Result:
    """Separate one song into its files."""
    wanted = missing(job, output)
    if not wanted:
        return Result(job.song, "skipped", dict(job.outputs))
    source = (sys.stdin.buffer, "<stdin>") if job.song == "-" else (job.song, None)
    with AudioReader(*source) as song:
        format_, rate = choose(song, output, notice)
        frames, done = expected(song, output, rate), 0
        stream = separator.stream(song, stems=list(wanted), start=output.start, end=output.end, rate=rate)
        with closing(stream) as blocks, open_writer(job, wanted, song, format_, rate, frames, output) as writer:
            for stems in blocks:
                writer.write(stems)
                done += next(iter(stems.values())).shape[1]
                progress(done, frames)
    for warning in writer.warnings:
        notice(f"{song.name}: {warning}")
    if writer.gain != 1:
        notice(f"{song.name}: all stems were turned down by {-20 * log10(writer.gain):.2f} dB so that none clips")
    files = {} if output.stdout else wanted
    return Result(job.song, "done", files, audio_seconds=done / rate, gain=writer.gain)


def missing(job: Job, output: Output) -> dict[str, Path]:
    """Say which of a song's outputs are to be written; refuse those that exist, unless that was decided."""
    if output.stdout is not None or output.existing == "force":
        return job.outputs
    there = [stem for stem, path in job.outputs.items() if os.path.lexists(path)]
    if there and output.existing == "refuse":
        path = job.outputs[there[0]]
        raise OutputExists(f"{path}: is there already; --force overwrites it, --skip-existing leaves it")
    return {stem: path for stem, path in job.outputs.items() if stem not in there}


def choose(song: AudioReader, output: Output, notice: Notice) -> tuple[OutputFormat, int]:
    """Choose the format and the rate of a song's stems, and say what is not as it was asked for."""
    format_ = choose_format(output.format, output.bits, song.bits, song.is_float)
    asked = song.rate if output.rate is None else output.rate
    rate = supported_rate(format_, asked)
    if rate != asked:
        notice(f"{song.name}: {format_.name} does not take {asked} Hz; written at {rate} Hz")
    if song.channels > 2:
        notice(f"{song.name}: its {song.channels} channels are separated in pairs, 1 and 2, 3 and 4, and so on")
    return format_, rate


def open_writer(
    job: Job,
    wanted: dict[str, Path],
    song: AudioReader,
    format_: OutputFormat,
    rate: int,
    frames: int | None,
    output: Output,
) -> StemWriter | Pipe:
    """Open the files of a song, or standard output."""
    if output.stdout is not None:
        return Pipe(output.stdout, rate, song.channels, format_.bits or "float")
    return StemWriter(
        wanted,
        rate=rate,
        channels=song.channels,
        format=format_,
        clip=output.clip,
        frames=frames,
        force=output.existing == "force",
        tags_from=None if job.song == "-" else Path(job.song),
    )


class Pipe:
    """A StemWriter for one stem and a pipe. What has gone through it cannot be turned down: loud samples are cut."""

    gain = 1.0
    warnings: tuple[str, ...] = ()

    def __init__(self, file: BinaryIO, rate: int, channels: int, bits: Bits) -> None:
        self.wav = WavStream(file, rate=rate, channels=channels, bits=bits)

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.wav.close()

    def write(self, stems: Stems) -> None:
        """Append a block of the only stem."""
        (stem,) = stems.values()
        self.wav.write(stem)


def expected(song: AudioReader, output: Output, rate: int) -> int | None:
    """How many samples each stem will have, as far as it is known before."""
    if song.frames is None:
        return None
    last = song.frames if output.end is None else min(song.frames, round(output.end * song.rate))
    return max(0, -(-(last - round(output.start * song.rate)) * rate // song.rate))
