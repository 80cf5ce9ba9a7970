"""What can be known before hours of work: that songs can be read and files be written, and how much room it takes."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from separate.audio.encoders import EncodedFile
from separate.audio.fileset import shown
from separate.audio.formats import OutputFormat, check_channels
from separate.audio.reader import AudioReader
from separate.audio.remote import remove
from separate.audio.uploads import file_set
from separate.audio.url import Location, Url, is_url
from separate.batch.job import Job, Output
from separate.errors import OutputError, SeparateError

__all__ = ["Needs", "preflight"]

READERS = 8  # songs whose headers are read at once: disks and networks take their time
PCM = {16: 2, 24: 3, 32: 4, "float": 4}  # bytes a sample
TRIAL = ".separate-trial"  # what is sent to a store to see whether it takes anything, and removed at once
# Of 16 bits at 44.1 kHz, more or less.
PACKED = {"flac": 0.6, "ogg": 0.4, "opus": 0.36, "mp3": 0.45, "m4a": 0.36, "stem.mp4": 0.36}


@dataclass(frozen=True)
class Kind:
    """What one writer is opened for."""

    format: OutputFormat
    rate: int
    channels: int


@dataclass(frozen=True)
class Needs:
    """What a batch takes."""

    songs: int = 0
    seconds: float = 0.0  # of those songs whose headers say
    unknown: int = 0  # songs whose headers do not
    room: int = 0  # bytes of all stems, and of what is kept while they are written
    free: int | None = None  # bytes in the output folder
    exact: bool = True  # whether `room` is no estimate

    @property
    def short(self) -> bool:
        """Whether there seems to be too little room."""
        return self.free is not None and self.room > self.free


def preflight(
    jobs: Sequence[Job],
    output: Output,
    folder: Location,
    *,
    at_once: int = 1,
    checked: Callable[[int], None] = lambda done: None,
) -> tuple[list[Job], Needs]:
    """Read the header of every song, encode a block of every kind, and add up the room that all stems need.

    What is wrong with a song is kept in its job. `at_once` songs are written at the same time; `checked` is told how
    many have been looked at.

    Raises:
        OutputError: the stems certainly do not fit on the disk.
    """
    found: list[tuple[Job, Kind | None, int]] = []
    with ThreadPoolExecutor(READERS, "separate-check") as pool:
        for looked_at in pool.map(lambda job: look(job, output), jobs):
            found.append(looked_at)
            checked(len(found))
        kinds = {kind: job for job, kind, _ in found if kind}
        wrong = dict(zip(kinds, pool.map(lambda kind: try_writer(kind, kinds[kind], folder), kinds), strict=True))
    found = [(replace(job, error=job.error or (wrong[kind] if kind else None)), kind, n) for job, kind, n in found]
    needs = add_up(found, output, folder, at_once)
    if needs.short and needs.exact:
        raise OutputError(
            f"{shown(folder)}: the stems of {needs.songs} songs need {gigabytes(needs.room)}, "
            f"{gigabytes(needs.free or 0)} are free; make room, or choose --format flac or another --out"
        )
    return [job for job, _, _ in found], needs


def look(job: Job, output: Output) -> tuple[Job, Kind | None, int]:
    """Read a song's header: return its job, the kind of its files, and how many samples each will have."""
    try:
        # What is no plain file gives its bytes once only.
        plain = is_url(job.song) or (job.song != "-" and stat.S_ISREG(os.stat(job.song).st_mode))
        if not job.todo or not plain:
            return job, None, 0
    except (OSError, ValueError):
        pass  # the reader says why
    try:
        with AudioReader(job.song) as song:
            kind = Kind(output.format_of(song), output.rate_of(song), output.channels_of(song))
            check_channels(kind.format, kind.channels, shown(next(iter(job.outputs.values()))))
            frames = output.frames_of(song)
            return replace(job, seconds=None if frames is None else frames / kind.rate), kind, frames or 0
    except SeparateError as error:
        return replace(job, error=error), None, 0


def try_writer(kind: Kind, job: Job, folder: Location) -> OutputError | None:
    """Encode half a second into a temporary file in the output folder, or where that will be; send it to a store."""
    final = next(iter(job.outputs.values()))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (kind.channels, kind.rate // 2)).astype(np.float32)
    try:
        where = folder / TRIAL if isinstance(folder, Url) else existing(folder) / f"test.{kind.format.name}"
        files = file_set({"test": where}, force=True)
    except OutputError as error:
        return error
    try:
        file = EncodedFile(files.temporary["test"], final, kind.format, rate=kind.rate, channels=kind.channels)
        file.write(noise)
        file.close()
        if isinstance(where, Url):
            files.commit()
            remove(where)
    except OutputError as error:
        return error
    finally:
        files.remove()
    return None


def existing(folder: Path) -> Path:
    """Find the nearest folder that is there."""
    return next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), folder)


def add_up(found: Sequence[tuple[Job, Kind | None, int]], output: Output, folder: Location, at_once: int) -> Needs:
    """Add up the room that the stems of all songs need."""
    todo = [(job, kind, frames) for job, kind, frames in found if job.todo]
    room, spools = 0.0, []
    for job, kind, frames in todo:
        if kind:
            samples = frames * kind.channels * len(job.outputs)
            room += samples * (
                PCM[kind.format.bits or 16] if kind.format.name == "wav" else 2 * PACKED[kind.format.name]
            )
            room -= sum(size_of(path) for path in job.outputs.values() if job.replace)
            kept = (output.clip == "rescale" and kind.format.bounded) or output.mixdown.rests
            spools.append(4 * samples if kept else 0)
    return Needs(
        songs=len(todo),
        seconds=sum(job.seconds or 0 for job, _, _ in todo),
        unknown=sum(job.seconds is None for job, _, _ in todo),
        room=max(0, round(room + sum(sorted(spools)[-at_once:]))),
        free=free_in(folder),
        exact=output.format == "wav",
    )


def size_of(path: Location) -> int:
    """Say how many bytes replacing a file would give back; nobody counts those of a store."""
    return path.stat().st_size if isinstance(path, Path) and path.is_file() else 0


def free_in(folder: Location) -> int | None:
    """Say how many bytes a folder can still take, where somebody knows."""
    try:
        return shutil.disk_usage(existing(folder)).free if isinstance(folder, Path) else None
    except OSError:
        return None


def gigabytes(size: int) -> str:
    """Write a number of bytes for people."""
    return f"{size / 1e9:.1f} GB" if size > 5e7 else f"{size / 1e6:.1f} MB"
