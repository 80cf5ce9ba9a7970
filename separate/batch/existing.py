"""What is there already: which songs are done, which are to be done again, and what a run that was killed left."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from separate.audio.fileset import shown
from separate.audio.uploads import remove_leftovers
from separate.audio.url import Location, name_below
from separate.batch.job import Job
from separate.batch.journal import Made, Record, Records
from separate.batch.plan import full_names, leaves
from separate.batch.stamp import Stamp, is_there, matches
from separate.errors import OutputExists, SeparateError

__all__ = ["Known", "clean", "drop_parts", "sweep"]

LEFTOVER = re.compile(r"\.[0-9a-f]{12}\.part")  # as FileSet names what is not complete
ASKED = 16  # songs about which is asked at once


class Known:
    """What is known of an output folder when a batch begins.

    Args:
        folder: the output folder, or its URL.
        records: what its journal says.
        made: how stems are made this time.
        existing: what becomes of files that are there: "refuse", "force" or "skip".
        resume: skip songs that are done, and do others again over files that are known.
    """

    def __init__(self, folder: Location, records: Records, made: Made, existing: str, resume: bool = False) -> None:
        self.folder = folder
        self.records = records
        self.made = made
        self.existing = existing
        self.resume = resume

    def settle_all(self, jobs: Iterable[Job]) -> list[Job]:
        """Decide about many songs, some at once: disks and networks take their time."""
        with ThreadPoolExecutor(ASKED, "separate-existing") as pool:
            return list(pool.map(self.settle, jobs))

    def settle(self, job: Job) -> Job:
        """Decide about a song: to be done as it is, done in part, skipped, or refused."""
        if job.error or not job.outputs:
            return job
        try:
            return self._settled(job)
        except SeparateError as error:  # a store does not say what is there
            return replace(job, error=error)

    def _settled(self, job: Job) -> Job:
        there = {stem: path for stem, path in job.outputs.items() if is_there(path)}
        if there and self.existing != "force" and (clash := self._clash(job, there)):
            return replace(job, error=clash)
        if self.resume:
            return self._resumed(job, there)
        if self.existing == "force" or not there:
            return replace(job, replace=bool(there))
        return self._refused(job, there) if self.existing == "refuse" else self._rest(job, there)

    def _clash(self, job: Job, there: dict[str, Location]) -> OutputExists | None:
        """Find the first file that is there of another song, which would be lost."""
        names = {job.song, *full_names(job.song)}
        for path in there.values():
            record = self.records.done.get(self._name(path))
            if record and names.isdisjoint(record.songs) and not same_song(job.song, record.input):
                return OutputExists(
                    f"{shown(job.song)}: its output {shown(path)} is that of {shown(record.songs[0])} too; "
                    "choose another --out or --name, or --force overwrites it"
                )
        return None

    def _refused(self, job: Job, there: dict[str, Location], advice: str = "--skip-existing leaves it") -> Job:
        path = next(iter(there.values()))
        more = ", --resume goes on with a batch" if self._ours(path) else ""
        said = f"{shown(path)}: is there already; --force overwrites it, {advice}{more}"
        return replace(job, error=OutputExists(said))

    def _rest(self, job: Job, there: dict[str, Location]) -> Job:
        """Leave the stems that are there, but for those that are known to be made otherwise; write the rest."""
        other = {stem: why for stem, path in there.items() if (why := self._otherwise(job, path))}
        wanted = {stem: path for stem, path in job.outputs.items() if stem not in there or stem in other}
        if not wanted:
            return replace(job, skip=True)
        kept = tuple(stem for stem in job.outputs if stem not in wanted)
        return replace(job, outputs=wanted, kept=kept, replace=bool(other), why=next(iter(other.values()), ""))

    def _otherwise(self, job: Job, path: Location) -> str:
        """Say why a file of ours is not what this batch would write. Files of others, or edited, are none of ours."""
        if self._name(path) in self.records.begun:
            return "was interrupted"
        record = self.records.done.get(self._name(path))
        return self._other(job, record) if record and matches(path, record.output) else ""

    def _resumed(self, job: Job, there: dict[str, Location]) -> Job:
        """Skip a song of which every file is what the journal says; do any other again, over files of ours only."""
        strange = {stem: path for stem, path in there.items() if not self._ours(path)}
        if strange and self.existing != "force":
            return self._refused(job, strange, "--skip-existing leaves it; the journal does not know it")
        reasons = [why for path in job.outputs.values() if (why := self._missing(job, path)) is not None]
        if not reasons:
            return replace(job, skip=True)
        return replace(job, replace=bool(there), why=reasons[0])

    def _ours(self, path: Location) -> bool:
        name = self._name(path)
        return name in self.records.done or name in self.records.begun

    def _missing(self, job: Job, path: Location) -> str | None:
        """Say why a file is to be written, "" if it is simply new; None if it can be left as it is."""
        name = self._name(path)
        record = self.records.done.get(name)
        if name in self.records.begun:
            return "was interrupted"
        if not record:
            return ""
        if why := self._other(job, record):
            return why
        if not is_there(path):
            return f"{path.name} is gone"
        return None if matches(path, record.output) else f"{path.name} was changed"

    def _other(self, job: Job, record: Record) -> str:
        """Say what is not as it was when a file was made."""
        if record.made.get("checkpoint") != self.made["checkpoint"]:
            return "was made by another checkpoint"
        if record.made != self.made:
            return "was made with other options"
        return "" if same_song(job.song, record.input) else "the song was changed"

    def _name(self, path: Location) -> str:
        return name_below(path, self.folder)


def same_song(song: str, known: Stamp | None) -> bool:
    """Tell whether a song is the version that was separated. Nobody knows that of a stream."""
    return song != "-" and known is not None and matches(song, known)


def sweep(records: Records, folder: Location) -> None:
    """Remove what a run that was killed had not completed, as far as the journal knows where in the folder that is."""
    clean({folder, *((folder / name).parent for name in records.begun if not leaves(name))}, folder)


def clean(folders: Iterable[Location], out: Location | None) -> None:
    """Remove files that were not completed, and folders below `out` if nothing else is in them."""
    for folder in folders:
        if not isinstance(folder, Path):
            remove_leftovers()  # in a store nothing is to be seen before it is complete
            return
        with contextlib.suppress(OSError):
            drop_parts(folder)
            for each in takewhile(lambda each: each != out, (folder, *folder.parents)):
                each.rmdir()


def drop_parts(folder: Path) -> None:
    """Remove files of a folder that were not completed."""
    for name in os.listdir(folder):
        if LEFTOVER.fullmatch(name):
            (folder / name).unlink()
