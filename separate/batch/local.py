"""Who does it: this process, one song after the other. A song that fails never stops the rest."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from math import log10
from pathlib import Path
from typing import BinaryIO

from separate.audio.formats import OutputFormat, check_channels, choose_format, supported_rate
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
    wanted = job.outputs
    if output.stdout is None and output.existing != "force":
        there = {stem: path for stem, path in wanted.items() if path.exists()}
        if there and output.existing != "skip":
            path = next(iter(there.values()))
            raise OutputExists(f"{path}: is there already; --force overwrites it, --skip-existing leaves it")
        wanted = {stem: path for stem, path in wanted.items() if stem not in there}
        if not wanted:
            return Result(job.song, "skipped", dict(job.outputs))
    source = (sys.stdin.buffer, "<stdin>") if job.song == "-" else (job.song, None)
    with AudioReader(*source) as song:
        format_ = choose_format(output.format, output.bits, song.bits, song.is_float)
        check_channels(format_, song.channels, next(iter(wanted.values())).name)
        rate = supported_rate(format_, output.rate or song.rate)
        if rate != (output.rate or song.rate):
            notice(f"{song.name}: {format_.name} does not take {output.rate or song.rate} Hz; written at {rate} Hz")
        if song.channels > 2:
            notice(f"{song.name}: its {song.channels} channels are separated in pairs, 1 and 2, 3 and 4, and so on")
        frames = expected(song, output, rate)
        blocks = separator.stream(song, stems=list(wanted), start=output.start, end=output.end, rate=rate)
        with closing(counted(blocks, frames, progress)) as counter:
            if output.stdout is not None:
                gain, done = 1.0, to_stdout(counter, output.stdout, song, format_, rate)
            else:
                tags_from = None if job.song == "-" else Path(job.song)
                writer = StemWriter(
                    wanted, rate=rate, channels=song.channels, format=format_, clip=output.clip, frames=frames,
                    force=output.existing == "force", tags_from=tags_from,
                )  # fmt: skip
                with writer:
                    for done, stems in counter:
                        writer.write(stems)
                gain = writer.gain
                for warning in writer.warnings:
                    notice(f"{song.name}: {warning}")
    if gain != 1:
        notice(f"{song.name}: all stems were turned down by {-20 * log10(gain):.2f} dB so that none clips")
    return Result(job.song, "done", wanted, audio_seconds=done / rate, gain=gain)


def to_stdout(
    blocks: Iterator[tuple[int, Stems]], file: BinaryIO, song: AudioReader, format_: OutputFormat, rate: int
) -> int:
    """Write the only stem as WAV to a pipe; return its length."""
    done = 0
    pipe = WavStream(file, rate=rate, channels=song.channels, bits=format_.bits or "float")
    for done, stems in blocks:
        (stem,) = stems.values()
        pipe.write(stem)
    pipe.close()
    return done


def counted(blocks: Iterator[Stems], total: int | None, progress: Progress) -> Iterator[tuple[int, Stems]]:
    """Count the samples that come by, and tell `progress` once a block has been dealt with."""
    done = 0
    for stems in blocks:
        done += next(iter(stems.values())).shape[1]
        yield done, stems
        progress(done, total)


def expected(song: AudioReader, output: Output, rate: int) -> int | None:
    """How many samples each stem will have, as far as it is known before."""
    if song.frames is None:
        return None
    last = song.frames if output.end is None else min(song.frames, round(output.end * song.rate))
    return max(0, -(-(last - round(output.start * song.rate)) * rate // song.rate))

