"""Whose estimates are scored: those in a folder, a model's, an oracle's, or those of a method that anybody can beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from separate.audio.fileset import shown
from separate.checkpoints.resolve import resolve
from separate.checkpoints.weights import fingerprint
from separate.datasets import Song, StemFile, Track, find_tracks, read_track
from separate.errors import InputError
from separate.evaluation import baselines
from separate.evaluation import oracle as oracles
from separate.evaluation.results import Made, title
from separate.separator import ArraySong, Separator

__all__ = ["System", "baseline", "folder", "model", "oracle"]


@dataclass(frozen=True)
class System:
    """Something that makes estimates."""

    made: Made  # what decides how they come out, as JSON has it
    estimate: Callable[[Track, Song], Song]  # a track of the data set and its samples -> the estimates
    files: Callable[[Track], list[StemFile]] = lambda track: []  # that the estimates of a track are read from
    partial: bool = False  # a stem may be missing by mistake


def folder(path: Path, references: list[Track], start: float, end: float | None) -> System:
    """Take the estimates from `path`: TRACK/STEM.*, as in the data set or as `separate` writes it for its mixtures."""
    found = find_tracks(path, layout="folder")
    # Who has a track's whole name comes first, where there is `Song` as well as `test/Song`.
    tracks = {short(track.name): track for track in found} | {track.name: track for track in found}
    if len(found) == len(references) == 1:  # two songs, whatever they are called
        tracks = {references[0].name: found[0]}

    def own(track: Track) -> Track:
        made = tracks.get(track.name) or tracks.get(short(track.name))
        if made is None:
            raise InputError(f"{shown(track.name)}: no estimates in {shown(path)}")
        return made

    def files(track: Track) -> list[StemFile]:
        return [file for stem in own(track).stems.values() for file in stem]

    def estimate(track: Track, song: Song) -> Song:
        # A mixture beside the estimates is not theirs.
        return read_track(Track(track.name, own(track).stems), start=start, end=end)

    return System({"estimates": str(path.resolve())}, estimate, files, partial=True)


def short(name: str) -> str:
    """Return what a track and its estimates are both called.

    >>> short("test/Song"), short("test/Song/mixture"), short("test/Song.stem")
    ('Song', 'Song', 'Song')
    """
    return title(name).removesuffix("/mixture").removesuffix(".stem")


def model(name: str, *, device: str, batch: int | None, say: Callable[[str], None], **options: Any) -> System:
    """Separate with a model; `options` are Separator's that decide what comes out."""
    checkpoint = fingerprint(resolve(name))
    separator = Separator(name, device=device, batch=batch, say=say, **options)

    def estimate(track: Track, song: Song) -> Song:
        stems = separator.separate(ArraySong(song.mixture.numpy(), song.rate, track.name))
        return Song(song.rate, {stem: torch.from_numpy(samples) for stem, samples in stems.items()}, song.mixture)

    options["precision"] = str(separator.dtype).removeprefix("torch.")  # what "auto" chose
    options["overlap"] = separator.chunking.overlap  # and what the model did
    return System({"model": name, "sha256": checkpoint, **options}, estimate)


def oracle(kind: str) -> System:
    """Filter the mixture with masks that know the true stems: the most that such filters can do."""
    make = {"irm": oracles.irm, "mwf": oracles.mwf}[kind]

    def estimate(track: Track, song: Song) -> Song:
        if not song.stems:
            raise InputError(f"{shown(track.name)}: has no stems to make masks of; add a file a stem")
        stems = {stem: samples for stem, samples in song.stems.items() if stem != "accompaniment"}
        if set(stems) <= {"vocals"}:  # there is nothing else to sum up to the mixture
            stems = song.stems
        return Song(song.rate, make(song.mixture, stems), song.mixture)

    return System({"oracle": kind}, estimate)


def baseline(kind: str) -> System:
    """Separate with a method that learns nothing."""

    def estimate(track: Track, song: Song) -> Song:
        if kind == "mixture":
            own = [stem for stem in song.stems if stem != "accompaniment"]
            stems = baselines.mixture(song.mixture, song.rate, *([] if set(own) <= set(baselines.FOUR) else [own]))
        else:
            stems = {"repet": baselines.repet, "hpss": baselines.hpss}[kind](song.mixture, song.rate)
        return Song(song.rate, stems, song.mixture)

    return System({"baseline": kind}, estimate)
