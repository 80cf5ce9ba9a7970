"""Fill a pool: data sets, folders of stems and corpora are decoded once, and songs are made of samples and scores."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from separate.audio.fileset import shown
from separate.audio.reader import AudioReader
from separate.audio.resample import resample
from separate.datasets import Song as Recording
from separate.datasets import StemFile, Track, accompaniment, find_tracks, read_track
from separate.dsp.parallel import side_by_side
from separate.errors import InputError, UsageError
from separate.training.augment import SHIFT, level, vary
from separate.training.config import Data
from separate.training.corpus import Clip, decode, decode_all, read_manifest
from separate.training.library import build_library
from separate.training.pool import RATE, Song, add_song, find_songs, open_song
from separate.training.singing import Voices, make_vocals
from separate.training.synth import make_song
from separate.training.tone import toned

__all__ = ["fill", "held_out", "read_corpus", "read_voices"]

SECONDS = 45.0  # of a synthetic song

Say = Callable[[str], None]


def fill(pool: Path, folders: Sequence[Path], data: Data, rate: int, say: Say) -> list[Song]:
    """Open the songs of `folders`: pools as they are, what else there is decoded into `pool`, unless that is done."""
    found: list[tuple[Path, bool]] = []
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{shown(folder)}: no such folder")
        if pooled := find_songs(folder):
            found += pooled
        elif (folder / "manifest.csv").exists():
            rows = [clip for kind in data.licensed for clip in read_corpus(folder, kind)]
            clips = list({replace(clip, licensed=""): clip for clip in rows}.values())  # without a set, of each of them
            found += add_tracks(recorded(clips), pool, data, rate, say, {clip.path: clip for clip in clips})
            found += add_synthetic(clips, pool, data, rate, say)
        else:
            found += add_tracks(training_tracks(folder), pool, data, rate, say)
    songs = []
    for path, real in found:
        try:
            songs.append(open_song(path, real))
        except InputError as error:
            say(f"skipped {error}")
    if not songs:
        raise InputError(f"{', '.join(map(shown, folders)) or 'no data'}: nothing to train with")
    return songs


def held_out(songs: Sequence[Song], share: float) -> tuple[list[Song], list[Song]]:
    """Split songs into those to learn from and those to validate with, by their names; at least one each.

    Nothing is learnt from copies of the latter. Made songs validate only if there are no others. A lone song does both.
    """
    names = sorted({song.name for song in songs if song.recorded} or {song.name for song in songs}, key=_number)
    held = set(names[: max(1, sum(_number(name) < share for name in names))]) if share else set()
    if len({song.name for song in songs}) == 1:
        return list(songs), [song for song in songs if not song.altered]
    learning = [song for song in songs if song.name not in held]
    return learning, [song for song in songs if song.name in held and not song.altered]


def training_tracks(folder: Path) -> list[Track]:
    """List the tracks of a data set that are there to learn from."""
    try:
        return find_tracks(folder, subset="train")
    except UsageError:  # it does not say which these are
        return find_tracks(folder)


def recorded(clips: Sequence[Clip]) -> list[Track]:
    """List the songs that a corpus has stems of: a folder each, or a folder of many in a layout that is known.

    Of a folder that has several files of a stem, and is no such layout, they are summed up.
    """
    folders: dict[Path, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.kind == "stem":
            folders[clip.path.parent].append(clip)
    tracks = []
    for folder, files in sorted(folders.items()):
        stems: dict[str, tuple[StemFile, ...]] = {}
        for clip in files:
            stems[clip.stem] = (*stems.get(clip.stem, ()), StemFile(clip.path))
        found = find_tracks(folder) if len(stems) < len(files) else []
        listed = {clip.path for clip in files}
        found = [track for track in found if listed.issuperset(f.path for fs in track.stems.values() for f in fs)]
        tracks += found if len(found) > 1 else [Track(folder.name, stems)]
    return tracks


def add_tracks(
    tracks: Sequence[Track], pool: Path, data: Data, rate: int, say: Say, listed: Mapping[Path, Clip] | None = None
) -> list[tuple[Path, bool]]:
    """Decode what is not yet in the pool, some tracks at a time; what cannot be decoded is named and left out.

    What is `listed` in a manifest may have been recorded at other rates than it has now.
    """
    found: list[tuple[Path, bool]] = []
    failed, said = 0, time.monotonic()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        results = threads.map(partial(_add_track, pool=pool, data=data, rate=rate, listed=listed or {}), tracks)
        for number, (track, (folders, messages)) in enumerate(zip(tracks, results, strict=True), 1):
            found += [(folder, True) for folder in folders]
            failed += not folders
            for message in messages:
                say(message)
            if time.monotonic() - said > 10:
                said = time.monotonic()
                say(f"decoded {number} of {len(tracks)} songs, now {shown(track.name)}")
    if failed:
        say(f"songs skipped: {failed} of {len(tracks)}")
    return found


def _add_track(
    track: Track, pool: Path, data: Data, rate: int, listed: Mapping[Path, Clip]
) -> tuple[list[Path], list[str]]:
    """Put a track and its altered copies into the pool; return where they are, and what there is to say."""
    files = [file for files in track.stems.values() for file in files] + ([track.mixture] if track.mixture else [])
    try:
        # By full names: a run that goes on may do so from another folder.
        facts = [
            (str(replace(file, path=file.path.resolve())), file.path.stat().st_size, file.path.stat().st_mtime_ns)
            for file in files
        ]
    except OSError as error:
        return [], [f"skipped {shown(track.name)}: {error.filename}: {error.strerror}"]
    rates = [listed[file.path].rate for file in files if file.path in listed]
    recorded_at = min(filter(None, rates), default=rate)
    facts += [("recorded at", recorded_at, 0)] * (recorded_at < rate)
    if listed:  # a file's name does not say what it is
        facts += [(stem, len(files), 0) for stem, files in track.stems.items()]
    folders = []
    song: Recording | None = None
    for copy in range(data.copies + 1):
        altered = (data.pitch, data.time, data.formants, data.reverb, data.compress, data.codec) if copy else ()
        key = hashlib.sha256(repr((facts, rate, copy, altered)).encode()).hexdigest()[:12]
        folder = pool / "songs" / f"{_file_name(track.name)}-{key}"
        if not folder.exists():
            try:
                song = song or read_track(track)
            except InputError as error:
                if not any(map(_damaged, files)):  # they do not belong together: that is for the user to set right
                    raise
                return [], [f"skipped {error}"]
            whole = _stems(song, mixed=track.mixture is not None)
            if not whole:
                given = " and ".join(song.stems) or "no stem"
                return [], [f"skipped {shown(track.name)}: a mixture and {given}; add its vocals: the rest is computed"]
            stems = {stem: x[:2] for stem, x in whole.items()}  # as mixes have them
            if song.rate != RATE:
                stems = {stem: resample(x, song.rate, RATE) for stem, x in stems.items()}
            if copy:
                stems = vary(stems, np.random.default_rng(int(key, 16)), data)
            if rate != RATE:
                stems = {stem: resample(x, RATE, rate) for stem, x in stems.items()}
            known = min(song.rate, RATE, rate, recorded_at) / 2
            known *= 2 ** (-SHIFT / 12) if copy and known < rate / 2 else 1  # in case that its pitch is lower now
            try:
                add_song(folder, stems, name=track.name, rate=rate, limit=known, altered=copy > 0)
            except InputError as error:
                return [], [f"skipped {error}"]
        folders.append(folder)
    return folders, list(song.warnings) if song else []


def _file_name(name: str) -> str:
    cut = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80].encode()[:200]  # with a key, systems take 255 bytes
    return cut.decode(errors="ignore") or "song"


def _damaged(file: StemFile) -> bool:
    try:
        with AudioReader(file.path, stream=file.stream) as song:
            return not any(block.size for block in list(song.blocks()))
    except InputError:
        return True


def _stems(song: Recording, mixed: bool) -> dict[str, Tensor]:
    """Complete the stems so that they sum to the song, as far as one can know; `mixed` if it was given as well.

    Nothing if the rest of it may be vocals or not.
    """
    stems = dict(song.stems)
    if set(stems) == {"vocals"}:
        stems["accompaniment"] = accompaniment(stems, song.mixture)
    elif set(stems) == {"accompaniment"}:
        stems["vocals"] = song.mixture - stems["accompaniment"]
    elif mixed and not {"other", "accompaniment"} & set(stems):
        return stems | {"other": reduce(torch.sub, stems.values(), song.mixture)} if "vocals" in stems else {}
    return stems


def add_synthetic(clips: Sequence[Clip], pool: Path, data: Data, rate: int, say: Say) -> list[tuple[Path, bool]]:
    """Make songs of samples and scores, each from its number alone, as many at a time as there are processors."""
    facts = sorted(repr(replace(clip, path=clip.path.resolve())) + _version(clip.path) for clip in clips)
    key = hashlib.sha256(repr((facts, rate)).encode()).hexdigest()[:8]
    folders = [pool / "synth" / f"{number:05d}-{key}" for number in range(data.synthetic)]
    missing = [(number, folder) for number, folder in enumerate(folders) if not folder.exists()]
    if missing:
        library, voices = build_library(clips, SECONDS, say), read_voices(clips, say)

    def make(song: tuple[int, Path]) -> None:
        number, folder = song
        rng = np.random.default_rng(number)
        stems = make_song(library, rng, SECONDS)
        stems["vocals"] = make_vocals(voices, rng, SECONDS)
        stems = {stem: toned(x, stem, rng) for stem, x in stems.items()}
        if rate != RATE:
            stems = {stem: resample(x, RATE, rate) for stem, x in stems.items()}
        add_song(folder, stems, rate=rate, limit=min(rate, RATE) / 2)
        say(f"made song {number + 1} of {len(folders)}")

    side_by_side(make, missing)
    return [(folder, False) for folder in folders]


def _version(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f" {status.st_size} {status.st_mtime_ns}"


def read_corpus(folder: Path, licensed: str = "permissive") -> list[Clip]:
    """Read the manifests of a corpus: its own, and those of its folders `singing` and `voices`, all vocals."""
    clips = read_manifest(folder, licensed=licensed)
    for part in ("singing", "voices"):
        if licensed == "permissive" and (folder / part / "manifest.csv").exists():
            clips += read_manifest(folder / part, stem="vocals", kind=part)
    return clips


# A phrase comes from one of these groups: the kinds of clips, and how often.
_VOICES = (
    (("singing",), 0.28),  # synthetic
    (("sung",), 0.15),  # speakers made to sing
    (("speech",), 0.04),
    (("phrase", "one-shot"), 0.08),
    (("stem", "voice-stem"), 0.45),  # singers of the recorded songs
)


def read_voices(clips: Sequence[Clip], say: Say = print) -> Voices:
    """Decode all that sings, in groups; a file that cannot be decoded is named and left out."""
    groups, odds = [], []
    for kinds, share in _VOICES:
        singing = [clip for clip in clips if clip.stem == "vocals" and clip.kind in kinds]
        group = [voice for _, voice in decode_all(singing, _voice, say)]
        if group:
            groups.append(group)
            odds.append(share)
    if not groups:
        raise InputError("the corpus has no vocals")
    return Voices(groups, odds)


def _voice(clip: Clip) -> Tensor:
    return level(decode(clip.path).mean(0, keepdim=True)).half()


def _number(name: str) -> float:
    """Turn a name into a number from 0 to 1 that looks like chance."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
