"""Score a system on the tracks of a data set, some at once; keep what an earlier run has scored."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

import torch

from separate.audio.fileset import shown
from separate.audio.formats import choose_format
from separate.audio.writer import StemWriter
from separate.datasets import Song, Track, read_track
from separate.errors import InputError, SeparateError
from separate.evaluation.estimates import System
from separate.evaluation.results import kept, save_track, title
from separate.evaluation.scoring import alike, merged, missing, score
from separate.metrics.score import Scores

__all__ = ["Outcome", "Plan", "evaluate", "made_with"]

LOSSY = {".aac", ".m4a", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".webm", ".wma"}


@dataclass(frozen=True)
class Plan:
    """What is measured, how, and where it goes."""

    out: Path
    metric: str = "v4"  # or "v3", "si-sdr", "sdr"
    start: float = 0.0
    end: float | None = None
    merge: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # stem -> the stems that it is the sum of
    jobs: int = 1  # tracks at once, each on its share of the processors
    force: bool = False  # score again what has been scored
    keep_stems: bool = False  # write the estimates to out/stems


@dataclass(frozen=True)
class Outcome:
    """What became of a track."""

    track: str
    scores: Scores = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: SeparateError | None = None
    before: bool = False  # it was scored in an earlier run


def evaluate(tracks: Sequence[Track], system: System, plan: Plan) -> Generator[Outcome]:
    """Score a system on tracks, yielding what became of each as it is done. A track that fails never stops the rest.

    Before any work it raises OutputExists if there are results of something else in `plan.out`, and InputError if two
    tracks would have one file of results.
    """
    check_titles(tracks)
    made = made_with(system, plan)
    files: dict[str, list[list[Any]]] = {}
    todo: list[Track] = []
    known: list[Outcome] = []
    for track in tracks:
        try:
            files[track.name] = stamps(track, system)
        except InputError as error:
            known.append(Outcome(title(track.name), error=error))
            continue
        before = earlier(track, files[track.name], plan, made)
        if before:
            known.append(before)
        else:
            todo.append(track)
    yield from known

    threads = torch.get_num_threads()
    writing, stopped = Lock(), Event()

    def work(track: Track) -> Outcome:
        try:
            outcome, estimates, duration = measure(track, system, plan)
            with writing:
                if not stopped.is_set():
                    save(outcome, estimates, duration, plan, {"made": made, "files": files[track.name]})
            return outcome
        except SeparateError as error:
            return Outcome(title(track.name), error=error)

    pool = ThreadPoolExecutor(plan.jobs, "separate-track", torch.set_num_threads, (max(1, threads // plan.jobs),))
    try:
        for future in as_completed([pool.submit(work, track) for track in todo]):
            yield future.result()
    finally:
        with writing:  # whoever interrupts us waits for a file that is being written, and no other is begun
            stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(threads)  # new threads start with what was set last


def check_titles(tracks: Sequence[Track]) -> None:
    """Refuse two tracks that results call the same: a `Song` beside a `test/Song`."""
    names: dict[str, str] = {}
    for track in tracks:
        other = names.setdefault(title(track.name), track.name)
        if other != track.name:
            both = f"{shown(other)} and {shown(track.name)}: both are called {shown(title(track.name))} in results"
            raise InputError(f"{both}; rename one, or score one of them alone by --subset")


def made_with(system: System, plan: Plan) -> dict[str, Any]:
    """Collect what decides the scores of a track, as JSON has it."""
    merge = {stem: list(parts) for stem, parts in plan.merge.items()}
    return {**system.made, "metric": plan.metric, "start": plan.start, "end": plan.end, "merge": merge}


def stamps(track: Track, system: System) -> list[list[Any]]:
    """Say which files a track and its estimates are read from, and which versions of them."""
    files = [file for stem in track.stems.values() for file in stem] + ([track.mixture] if track.mixture else [])
    paths = dict.fromkeys(file.path for file in [*files, *system.files(track)])
    try:
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    except OSError as error:
        raise InputError(f"{shown(str(error.filename))}: cannot be read: {error.strerror}") from error


def earlier(track: Track, files: list[list[Any]], plan: Plan, made: Mapping[str, Any]) -> Outcome | None:
    """Find what an earlier run made of a track, if that still holds."""
    name = title(track.name)
    found = kept(plan.out, name, made, files, plan.force)
    if found is None or (plan.keep_stems and not (plan.out / "stems" / name).is_dir()):
        return None
    return Outcome(name, found[0], tuple(found[1]), before=True)


def measure(track: Track, system: System, plan: Plan) -> tuple[Outcome, Song, float]:
    """Read, separate and score a track. Returns the estimates and the seconds of a frame, too."""
    name = shown(track.name)
    song = rounded(track, read_track(track, start=plan.start, end=plan.end))
    estimates = system.estimate(track, song)
    song, estimates, notes = alike(name, song, estimates)
    ours, theirs = merged(song, plan.merge), merged(estimates, plan.merge)
    try:
        scores, duration, more = score(ours, theirs, plan.metric)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    if system.partial:
        more += missing(ours, theirs)
    notes = (*song.warnings, *estimates.warnings, *notes, *(f"{name}: {note}" for note in more))
    return Outcome(title(track.name), scores, notes), estimates, duration


def rounded(track: Track, song: Song) -> Song:
    """Round references from lossy files to 16 bits.

    Their codecs leave bands without any sound. There the distortion filters of BSS Eval can be anything, and SIR and
    SAR with them; the noise of 16 bits, 98 dB below full scale, is enough to tell.
    """
    if not any(file.path.suffix.lower() in LOSSY for files in track.stems.values() for file in files):
        return song
    return replace(song, stems={stem: (samples * 2**15).round() / 2**15 for stem, samples in song.stems.items()})


def save(outcome: Outcome, estimates: Song, duration: float, plan: Plan, about: Mapping[str, Any]) -> None:
    """Write a track's stems, if they are wanted, and then its scores."""
    if plan.keep_stems:
        paths = {stem: plan.out / "stems" / outcome.track / f"{stem}.wav" for stem in estimates.stems}
        format, channels = choose_format("wav", "float", 32, True), len(estimates.mixture)
        with StemWriter(
            paths, rate=estimates.rate, channels=channels, format=format, clip="none", force=True
        ) as writer:
            writer.write({stem: samples.numpy() for stem, samples in estimates.stems.items()})
    save_track(plan.out, outcome.track, outcome.scores, duration, {**about, "notes": list(outcome.notes)})
