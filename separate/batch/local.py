"""Who does it: this process, one song after the other. A song that fails never stops the rest."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from math import log10
from pathlib import Path
from typing import BinaryIO

import numpy as np

from separate.audio.fileset import output_error, shown
from separate.audio.formats import Bits
from separate.audio.reader import AudioReader
from separate.audio.url import Location
from separate.audio.wav import WavStream
from separate.audio.writer import StemWriter
from separate.batch.job import Job, Notice, Output, Progress, Result
from separate.batch.mixdown import Mixer
from separate.batch.stamp import Stamp, peek, stamp, sync_folder
from separate.errors import DeviceMemoryError, InputError, OutputError, SeparateError, UsageError
from separate.separator import Separator, Stems
from separate.stream import out_of_memory

__all__ = ["attempt", "run"]


def run(
    jobs: Iterable[Job | None],
    separator: Separator,
    output: Output,
    *,
    notice: Notice = lambda message: None,
    progress: Callable[[Job], Progress] = lambda job: lambda done, total: None,
) -> Generator[Result | None]:
    """Do the jobs, yielding each one's result as it is done. `notice` is told what a user may want to know.

    A job that is None stands for "nothing at the moment"; so does a result.
    """
    for job in jobs:
        yield attempt(job, separator, output, notice, progress(job)) if job else None


def attempt(job: Job, separator: Separator, output: Output, notice: Notice, progress: Progress) -> Result:
    """Do a job, and say how long it took and what went wrong."""
    begun = time.monotonic()
    try:
        result = do(job, separator, output, notice, progress)
    except Exception as error:  # not even a mistake of ours stops the rest
        if isinstance(error, BrokenPipeError) and output.stdout is not None:
            raise  # whoever read our output has gone: so do we, as programs in a pipe do
        result = Result(job, "failed", error=explained(job.song, error))
    result.seconds = time.monotonic() - begun
    return result


def do(job: Job, separator: Separator, output: Output, notice: Notice, progress: Progress) -> Result:
    """Separate one song into its files."""
    source = (sys.stdin.buffer, "<stdin>") if job.song == "-" else (job.song, None)
    before = None if job.song == "-" else peek(job.song)
    with AudioReader(*source) as song:
        say_what_differs(song, output, notice)
        rate, frames, done = output.rate_of(song), output.frames_of(song), 0
        mixer = Mixer(output.mixdown, (*job.outputs, *job.kept), rate)
        stream = separator.stream(song, stems=mixer.stems, start=output.start, end=output.end, rate=rate)
        with closing(stream) as blocks, open_writer(job, song, output, mixer, before) as writer:
            for stems in blocks:
                writer.write(mixer.mix(stems))
                done += next(iter(stems.values())).shape[1]
                progress(done, frames)
            version = unchanged(job.song, before)
    for said in (*writer.warnings, *mixer.said):
        notice(f"{song.name}: {said}")
    gain = writer.gain * mixer.gain
    if gain != 1:
        reason = "clips" if mixer.gain == 1 else "is louder than the song"
        notice(f"{song.name}: all stems were turned down by {-20 * log10(gain):.2f} dB so that none {reason}")
    written = {} if output.stdout else stamps(job.outputs)
    return Result(job, "done", audio_seconds=done / rate, gain=gain, input=version, written=written)


def explained(song: str, error: Exception) -> SeparateError:
    """Describe an error, also one that nobody foresaw, but for lack of memory."""
    if isinstance(error, SeparateError):
        return error
    if out_of_memory(error):
        return DeviceMemoryError(f"{shown(song)}: out of memory: free some, or try fewer --jobs or a shorter --segment")
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(where.filename)}, line {where.lineno}"
    return SeparateError(f"{shown(song)}: {type(error).__name__} in {place}: {error}; this is a mistake: report it")


def unchanged(song: str, before: Stamp | None) -> Stamp | None:
    """Return the version of a song that was read, if it was one and the same all the time; None for a stream."""
    if before is None:
        return None
    try:
        version = stamp(song)
    except OSError as error:
        raise InputError(f"{shown(song)}: cannot be read any more: {error.strerror or error}") from error
    if replace(version, sha256="") != before:
        raise InputError(f"{shown(song)}: was changed while it was read; separate it again when it is complete")
    return version


def stamps(outputs: dict[str, Location]) -> dict[str, Stamp]:
    """Have the names of a song's files on the disk, where their bytes are, and say what they are."""
    written = {}
    for stem, path in outputs.items():
        try:
            written[stem] = stamp(path)
        except OSError as error:
            raise output_error(path, error) from error
    for folder in {path.parent for path in outputs.values() if isinstance(path, Path)}:
        sync_folder(folder)
    return written


def say_what_differs(song: AudioReader, output: Output, notice: Notice) -> None:
    """Say what of a song's stems will not be as it was asked for."""
    rate, asked = output.rate_of(song), output.rate or song.rate
    if rate != asked:
        notice(f"{song.name}: {output.format} does not take {asked} Hz; written at {rate} Hz")
    if song.channels > 2:
        notice(f"{song.name}: its {song.channels} channels are separated in pairs, 1 and 2, 3 and 4, and so on")


def open_writer(job: Job, song: AudioReader, output: Output, mixer: Mixer, version: Stamp | None) -> StemWriter | Pipe:
    """Open the files of a song, or standard output."""
    format_, rate = output.format_of(song), output.rate_of(song)
    if output.stdout is not None:
        if output.clip == "none" and format_.bounded:
            raise UsageError(f"--clip none: {format_} has a full scale; add --bits float")
        return Pipe(output.stdout, rate, song.channels, format_.bits or "float", cut=output.clip == "hard")
    return StemWriter(
        job.outputs,
        rate=rate,
        channels=output.channels_of(song),
        format=format_,
        clip=output.clip,
        frames=output.frames_of(song),
        force=job.replace,
        kept=job.kept,
        tags_from=job.song if version else None,  # what gives its bytes once only would be waited for
        in_title=output.mixdown.in_title,
        gains=mixer.gains if mixer.settles and (output.clip != "none" or output.mixdown.level) else None,
    )


class Pipe:
    """A StemWriter for one stem and a pipe. What has gone through it cannot be turned down: loud samples are cut."""

    gain = 1.0
    warnings: tuple[str, ...] = ()

    def __init__(self, file: BinaryIO, rate: int, channels: int, bits: Bits, cut: bool) -> None:
        with telling():
            self.wav = WavStream(file, rate=rate, channels=channels, bits=bits)
        self.cut = cut

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            with telling():
                self.wav.close()

    def write(self, stems: Stems) -> None:
        """Append a block of the only stem."""
        (stem,) = stems.values()
        with telling():
            self.wav.write(np.clip(stem, -1, 1) if self.cut else stem)


@contextmanager
def telling() -> Iterator[None]:
    """Say that it is standard output that takes no more."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: cannot be written: {error.strerror or error}") from error
