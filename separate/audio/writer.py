"""Write all stems of one song: as they come, none louder against the others than it was, all files or none."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from separate.audio.encoders import EncodedFile
from separate.audio.fileset import output_error, shown
from separate.audio.formats import OutputFormat, check_channels
from separate.audio.tag_reader import read_tags
from separate.audio.tag_writer import write_tags
from separate.audio.uploads import file_set
from separate.audio.url import Location
from separate.errors import OutputError, UsageError

__all__ = ["Clip", "StemWriter"]

Clip = Literal["rescale", "hard", "none"]
_CEILING = 1 - 2.0**-15  # the highest sample of 16 bits


class StemWriter:
    """A context manager that stems are written to: leaving it puts the files there, an exception leaves none.

    Samples beyond full scale, where the format ends there, are met by one gain for all stems of the song
    (clip="rescale"), or cut off ("hard"). Whether a song needs that gain, or one of `gains`, is known at its end only:
    its stems are encoded as they are and kept as float32 in an anonymous temporary file, from which they are encoded
    again.

    Args:
        paths: the name of each stem to its file, or URL.
        rate: samples a second, one that `formats.supported_rate` returned.
        channels: of every stem.
        format: what to write.
        clip: what happens to samples beyond full scale; "none" is for float samples, which have no such limit.
        frames: how long the song will be, if that is known: a full disk is then reported before the work.
        force: replace files that are there.
        tags_from: the song whose tags and cover art are copied.
        in_title: write the stems' names into their titles too.
        gains: asked at the song's end what to multiply each stem by.
        kept: stems that are on file already: they are written no more, but count for the gain.

    Attributes:
        gain: what all stems were multiplied by, beside `gains`; known after leaving.
        peak: the highest absolute sample of all stems, before gain or clipping.
        warnings: one line each, without the file's name; complete after leaving.

    Raises:
        OutputExists: a file is there already.
        OutputError: a file cannot be written.
        UsageError: the options make no sense together.
    """

    def __init__(
        self,
        paths: Mapping[str, Location],
        *,
        rate: int,
        channels: int,
        format: OutputFormat,
        clip: Clip = "rescale",
        frames: int | None = None,
        force: bool = False,
        tags_from: str | Path | None = None,
        in_title: bool = False,
        gains: Callable[[], Mapping[str, float]] | None = None,
        kept: Collection[str] = (),
    ) -> None:
        if clip == "none" and format.bounded:
            raise UsageError(f"--clip none: {format} has a full scale; add --format wav --bits float")
        for path in paths.values():
            check_channels(format, channels, shown(path))
        self.gain = 1.0
        self.warnings: list[str] = []
        self._paths = dict(paths)
        self._rate, self._channels, self._format = rate, channels, format
        self._clip = clip
        self._tags_from, self._in_title = tags_from, in_title
        self._gains = gains
        self._peaks = dict.fromkeys((*paths, *kept), 0.0)
        self._frames = 0
        self._strange = 0
        self._files: dict[str, EncodedFile] = {}
        self._spool: _Spool | None = None
        self._set = file_set(paths, force=force)
        self._folder = next(iter(self._set.temporary.values())).parent
        self._threads = ThreadPoolExecutor(len(paths) + 1, thread_name_prefix="encoder")  # and the spool
        try:
            self._open()
            if gains or self._rescales:
                self._spool = _Spool(self._folder)
            self._check_room(frames or 0)
        except BaseException:
            self._abandon()
            raise

    @property
    def peak(self) -> float:
        """The highest absolute sample of all stems so far."""
        return max(self._peaks.values())

    @property
    def _rescales(self) -> bool:
        return self._clip == "rescale" and self._format.bounded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._abandon()

    def write(self, stems: Mapping[str, NDArray[np.float32]]) -> None:
        """Append a block (channel, time) to every stem; all blocks are of the same length."""
        measured = {name: self._measured(name, stems[name]) for name in self._peaks}
        blocks = {name: measured[name] for name in self._paths}
        lengths = {block.shape for block in blocks.values()}
        if len(lengths) != 1 or lengths.pop()[0] != self._channels:
            shapes = ", ".join(f"{name} {block.shape}" for name, block in blocks.items())
            raise ValueError(f"stems must have {self._channels} channels and one length: {shapes}")
        self._frames += next(iter(blocks.values())).shape[1]
        spooled = self._threads.submit(self._spool.write, blocks.values()) if self._spool is not None else None
        if self._rescales and self.peak > 1:  # everything will be encoded again from the spool
            self._drop_files()
        else:
            self._encode(blocks)
        if spooled is not None:
            spooled.result()

    def _measured(self, name: str, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the block's peak into account, and make silence of what is not a number."""
        block = np.asarray(block, dtype=np.float32)
        lowest, highest = float(block.min(initial=0)), float(block.max(initial=0))
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            finite = np.isfinite(block)
            self._strange += int(block.size - finite.sum())
            block = np.where(finite, block, np.float32(0))
            lowest, highest = float(block.min(initial=0)), float(block.max(initial=0))
        self._peaks[name] = max(self._peaks[name], -lowest, highest)
        return block

    def _finish(self) -> None:
        gains = dict.fromkeys(self._peaks, 1.0) | dict(self._gains() if self._gains else {})
        peak = max(gains[name] * self._peaks[name] for name in self._peaks)
        if self._rescales and peak > 1:
            self.gain = _CEILING / peak
        # A loud stem that is kept may have cost the files, and need no gain after all.
        if self._spool is not None and (not self._files or any(self.gain * gains[name] != 1 for name in self._paths)):
            self._drop_files()
            self._open()
            for blocks in self._spool.read(list(self._paths), self._channels):
                self._encode({name: block * np.float32(self.gain * gains[name]) for name, block in blocks.items()})
        self._each(lambda name: self._files[name].close())
        if self._strange:
            self.warnings.append(f"{self._strange} samples were not finite numbers and became silence")
        if not self._frames and not self._format.container.empty:
            self.warnings.append(f"{self._format.name} cannot hold a song without samples: it became one of silence")
        if self._tags_from is not None:
            self._copy_tags(self._tags_from)
        self._set.commit()

    def _copy_tags(self, song: str | Path) -> None:
        tags = read_tags(song)
        for name, path in self._paths.items():
            try:
                warning = write_tags(
                    tags, self._set.temporary[name], self._format.name, stem=name, in_title=self._in_title
                )
            except OSError as error:
                raise output_error(path, error) from error
            if warning is not None and warning not in self.warnings:
                self.warnings.append(warning)

    def _open(self) -> None:
        def open_one(name: str) -> None:
            self._files[name] = EncodedFile(
                self._set.temporary[name], self._paths[name], self._format, rate=self._rate, channels=self._channels
            )

        self._each(open_one)

    def _encode(self, blocks: Mapping[str, NDArray[np.float32]]) -> None:
        if self._clip == "hard":
            blocks = {name: np.clip(block, -1, 1) for name, block in blocks.items()}
        self._each(lambda name: self._files[name].write(blocks[name]))

    def _each(self, work: Callable[[str], None]) -> None:
        """Do something for all stems side by side, in threads that Ctrl-C does not reach: a codec would swallow it."""
        tasks = [self._threads.submit(work, name) for name in self._paths]
        wait(tasks)
        for task in tasks:
            task.result()

    def _drop_files(self) -> None:
        while self._files:
            self._files.popitem()[1].abandon()

    def _abandon(self) -> None:
        """Leave nothing behind but what is complete; after `_finish` there is nothing else."""
        try:
            self._threads.shutdown(cancel_futures=True)
            self._drop_files()
            if self._spool is not None:
                self._spool.close()
        finally:
            self._set.remove()

    def _check_room(self, frames: int) -> None:
        """Raise OutputError if even the part of the output whose size is certain does not fit on the disk."""
        width = {16: 2, 24: 3, 32: 4, "float": 4}[self._format.bits or 16] if self._format.name == "wav" else 0
        needed = frames * self._channels * len(self._paths) * (width + (4 if self._spool else 0))
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:
            return
        if needed > free:
            sizes = f"{needed / 1e9:.1f} GB while they are written, {free / 1e9:.1f} GB are free"
            raise OutputError(f"{shown(self._folder)}: the stems need {sizes}; make room, or {self._set.elsewhere}")


class _Spool:
    """Blocks of all stems as float32, in a file without a name: it is gone when it is closed, however that happens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lengths: list[int] = []
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed in close)
        except OSError as error:
            raise output_error(folder, error) from error

    def write(self, blocks: Collection[NDArray[np.float32]]) -> None:
        try:
            for block in blocks:
                self._file.write(np.ascontiguousarray(block).data)
        except OSError as error:
            raise output_error(self._folder, error) from error
        self._lengths.append(next(iter(blocks)).shape[1])

    def read(self, names: list[str], channels: int) -> Iterator[dict[str, NDArray[np.float32]]]:
        try:
            self._file.seek(0)
            for length in self._lengths:
                data = np.frombuffer(self._file.read(4 * len(names) * channels * length), np.float32)
                yield dict(zip(names, data.reshape(len(names), channels, length), strict=True))
        except OSError as error:
            raise output_error(self._folder, error) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
