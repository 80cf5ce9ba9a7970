"""What is done: a file in the output folder, to which every event of a batch is appended as a line of JSON.

    {"v": 1, "event": "batch", "time": ..., "out": ..., "pid": ..., "host": ..., "separate": ...}
    {"v": 1, "event": "begin", "song": ..., "outputs": {stem: file}}
    {"v": 1, "event": "done", "song": ..., "names": [...], "input": stamp, "made": {...},
     "outputs": {stem: {"file": ..., stamp}}, ...}
    {"v": 1, "event": "failed", "song": ..., "outputs": {stem: file}, "error": ...}

A line is on the disk before what it announces happens, and a song's files are on the disk before its "done" is. So
after a kill or a power cut the journal never says more than is true. `made` is what decides the stems' bytes besides
the song: the checkpoint's hash and the options. `names` are the song's from the root on, by which its next version is
told from another song whose files would be called the same. Files are named from the output folder on: it can be
moved. If that is at a URL, the journal stays on this machine, for what is in a store cannot be appended to. A journal
may serve several folders: "batch" says which, "" if it is the journal's own, and what follows, up to the next one, is
of that folder.

The open file is the lock as well, and so is the output folder: the system lets go of them when their process ends,
however that happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

from separate import __version__
from separate.audio.fileset import lock, output_error, shown
from separate.audio.url import Location, Url, name_below, plain, redacted
from separate.batch.job import Job, Result
from separate.batch.plan import full_names
from separate.batch.stamp import Stamp, sync_folder
from separate.errors import OutputError, SeparateError

__all__ = ["NAME", "Interrupted", "Journal", "Made", "Record", "Records", "journal_folder", "read_records"]

NAME = ".separate.jsonl"
VERSION = 1

Made = dict[str, Any]


class Interrupted(SeparateError):
    """Whoever did a song has died: what it had completed may be there, and is ours."""


@dataclass(frozen=True)
class Record:
    """What the journal knows of a file: how it was made, from what, and what it was then."""

    made: Made
    input: Stamp | None
    output: Stamp
    songs: tuple[str, ...]  # full names of the song; in old journals it is as the user named it
    gain: float = 1.0  # that all stems of the song were turned down by


class Records:
    """What a journal says, event after event, of the output folder `out`; "" is its own."""

    def __init__(self, out: str = "") -> None:
        self.out, self.elsewhere = out, False
        self.done: dict[str, Record] = {}  # file -> what it is
        self.begun: dict[str, str] = {}  # file -> the song that was being separated into it
        self.owner = "another run"  # who began the last batch
        self.damaged = 0  # lines that cannot be read

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        if event["event"] == "batch":
            self.owner = f"process {event['pid']} on {event['host']}"
            self.elsewhere = event.get("out", self.out) != self.out
        elif self.elsewhere:
            return
        elif event["event"] == "begin":
            self.begun |= dict.fromkeys(map(inside, event["outputs"].values()), event["song"])
        elif event["event"] == "failed":
            self._end(event["outputs"].values())
        elif event["event"] == "done":
            source = Stamp(**event["input"]) if event["input"] else None
            songs = tuple(map(str, event.get("names") or [event["song"]]))
            found, gain = {}, float(event.get("gain", 1.0))
            for output in event["outputs"].values():
                rest = {key: value for key, value in output.items() if key != "file"}
                found[inside(output["file"])] = Record(dict(event["made"]), source, Stamp(**rest), songs, gain)
            self._end(found)
            self.done |= found

    def _end(self, files: Iterable[str]) -> None:
        for file in files:
            self.begun.pop(file, None)


def inside(name: str) -> str:
    """Make sure that a name is one of a file in the journal's folder: what was begun there is cleaned up."""
    if os.path.isabs(name) or ".." in name.split("/") or b"\0" in os.fsencode(name):
        raise ValueError(f"{name!r} is no file of this folder")
    return name


def read_records(folder: Path, out: Location | None = None) -> Records:
    """Read a journal, of the output folder `out` if that is another; without one, nothing is known.

    Lines that make no sense are passed over.
    """
    records = Records(_other(folder, out))
    path = folder / NAME
    if not path.is_file():
        return records
    try:
        with path.open("rb") as file:
            for line in file:
                _take(line, records, path)
    except OSError as error:
        raise OutputError(f"{shown(path)}: the journal cannot be read: {error.strerror or error}") from error
    return records


def _other(folder: Path, out: Location | None) -> str:
    """Name the output folder that a journal tells of, if that is not its own."""
    if out is None or (isinstance(out, Path) and out.resolve() == folder.resolve()):
        return ""
    return str(out.resolve()) if isinstance(out, Path) else redacted(str(out))


def _take(line: bytes, records: Records, path: Path) -> None:
    if not line.strip():
        return
    try:
        event = json.loads(line)
        version = event["v"]
        if version == VERSION:
            records.add(event)
            return
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        records.damaged += 1  # cut off by a crash, most likely: the song it tells of will be done again
        return
    raise OutputError(
        f"{shown(path)}: this journal is of version {version!r}, {VERSION} is known here: "
        "update separate, choose another --out, or remove the file"
    )


def journal_folder(out: Location, chosen: str | None = None) -> Path:
    """Say where an output folder's journal is: in it, or, if that is at a URL, with others of this user by its name."""
    if chosen is not None:
        return Path(plain(chosen))
    if isinstance(out, Path):
        return out
    state = Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"))
    protocol, _, path = str(out).partition("://")
    return state.joinpath("separate", *(quote(part, safe=" ") for part in (protocol, *path.split("/")) if part))


class Journal:
    """A context manager: the journal of an output folder, locked and open for more.

    Args:
        folder: where it is.
        made: how stems are made this time.
        out: the output folder, if that is another one.

    Raises:
        OutputError: it cannot be written, is of another version, or another batch has it.
    """

    def __init__(self, folder: Path, made: Made, out: Location | None = None) -> None:
        self.folder = folder
        self.out = folder if out is None else out
        self.made = made
        self._made_folders = {top: _missing(top) for top in {folder, self.out} if isinstance(top, Path)}
        self._path = folder / NAME
        self._new = not self._path.exists()
        try:
            for top in self._made_folders:
                self._make(top)
            self._file = self._locked()
        except BaseException as error:
            self._remove_folders()
            if isinstance(error, OSError):
                raise self._error(folder, error) from error
            raise
        self._hold: int | None = None
        try:
            self._hold = _held(self.out)
            self.records = read_records(folder, self.out)
            about = {"pid": os.getpid(), "host": socket.gethostname(), "separate": __version__}
            self._append("batch", out=self.records.out, **about)
        except BaseException:
            with contextlib.suppress(OSError):
                if self._new and not self._file.seek(0, os.SEEK_END):
                    self._path.unlink()
            self._remove_folders()
            self._let_go()
            raise
        if self._new:
            sync_folder(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go. A new journal that tells of no file is removed, with the folders that were made for it."""
        begun = any(isinstance(self.out, Url) or os.path.lexists(self.out / name) for name in self.records.begun)
        if self._new and not begun and not self.records.done:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._remove_folders()
        self._let_go()

    def _make(self, folder: Path) -> None:
        """Have the output folder, or that of the journal."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            option = "--out" if folder == self.out else "--journal"
            raise OutputError(f"{shown(folder)}: is a file, not a folder: choose another with {option}") from error
        except OSError as error:
            raise self._error(folder, error) from error

    def _remove_folders(self) -> None:
        """Remove the folders that were made, as far as nothing is in them."""
        for folders in self._made_folders.values():
            with contextlib.suppress(OSError):
                for folder in folders:
                    folder.rmdir()

    def _error(self, path: Path, error: OSError) -> OutputError:
        """Translate what the system says, and name the option that chose the folder."""
        if self.out in (self.folder, path):
            return output_error(path, error)
        said = f"{shown(path)}: the journal cannot be written there: {error.strerror or error}"
        return OutputError(f"{said}; choose another folder with --journal")

    def _let_go(self) -> None:
        self._file.close()
        if self._hold is not None:
            os.close(self._hold)

    def begin(self, job: Job) -> None:
        """Write down that a song's files are going to be written."""
        self._append("begin", song=redacted(job.song), outputs=self._names(job))

    def end(self, result: Result) -> None:
        """Write down what became of a song."""
        song = redacted(result.song)
        about: dict[str, Any] = {"seconds": round(result.seconds, 3), "audio_seconds": round(result.audio_seconds, 6)}
        if result.error:
            # What was begun and interrupted stays begun, so that the next run may replace it.
            ended = {} if isinstance(result.error, Interrupted) else self._names(result.job)
            self._append("failed", song=song, outputs=ended, error=str(result.error), **about)
            return
        outputs = {
            stem: {"file": self.name(path), **asdict(result.written[stem])} for stem, path in result.outputs.items()
        }
        source = asdict(result.input) if result.input else None
        about |= {"names": full_names(result.song), "input": source, "made": self.made, "gain": result.gain}
        self._append("done", song=song, outputs=outputs, **about)

    def forget(self, job: Job) -> None:
        """Keep what is known of a song's files on the disk only: of millions, memory could not hold it."""
        for file in self._names(job).values():
            self._new &= self.records.done.pop(file, None) is None

    def name(self, path: Location) -> str:
        """Name an output from the output folder on."""
        return name_below(path, self.out)

    def _names(self, job: Job) -> dict[str, str]:
        return {stem: self.name(path) for stem, path in job.outputs.items()}

    def _append(self, event: str, **facts: Any) -> None:
        line = {"v": VERSION, "event": event, "time": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
        try:
            rest = (b"\n" if self._cut() else b"") + json.dumps(line).encode() + b"\n"
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._error(self._path, error) from error
        self.records.add(line)

    def _cut(self) -> bool:
        """Tell whether the last line was cut off, by a crash or a full disk."""
        size = self._file.seek(0, os.SEEK_END)
        if not size:
            return False
        self._file.seek(size - 1)
        return self._file.read(1) != b"\n"

    def _locked(self) -> IO[bytes]:
        while True:
            file = open(self._path, "a+b", buffering=0)  # noqa: SIM115 (closed in __exit__)
            try:
                if not lock(file):
                    records = read_records(self.folder, self.out)
                    if records.elsewhere:
                        raise OutputError(
                            f"{shown(self.folder)}: the journal is in use by {records.owner}: "
                            "wait until it is through, or choose another --journal"
                        )
                    raise OutputError(
                        f"{shown(self.out)}: {records.owner} writes there just now: "
                        "wait until it is through, or choose another --out"
                    )
                with contextlib.suppress(FileNotFoundError):  # its last owner may have removed it meanwhile
                    if os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                        return file
            except BaseException:
                file.close()
                raise
            file.close()


def _missing(folder: Path) -> list[Path]:
    """List what has to be made for a folder to be there, itself first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _held(out: Location) -> int | None:
    """Lock an output folder, whose journal may be elsewhere; None where folders know no locks."""
    if sys.platform == "win32" or not isinstance(out, Path):
        return None
    try:
        hold = os.open(out, os.O_RDONLY)
    except PermissionError:  # it may be written to, but not be read
        return None
    if lock(hold):
        return hold
    os.close(hold)
    raise OutputError(
        f"{shown(out)}: another run writes there just now: wait until it is through, or choose another --out"
    )
