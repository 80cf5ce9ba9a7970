"""The sample library: every one-shot and score of a corpus, sorted into instruments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from separate.errors import InputError
from separate.training.corpus import Clip, decode, decode_all
from separate.training.instruments import Instrument, Shot
from separate.training.midi import read_midi

__all__ = ["Library", "build_library"]

# What is struck in drum patterns, the longer names first. Other drums are percussion.
_HATS = ("hihat-half-open", "hihat-closed", "hihat-pedal", "hihat-open", "hihat-loose", "hihat")
_ROLES = (*_HATS, "snare-sidestick", "snare-roll", "snare", "kick", "tom", "ride", "crash", "clap", "rim")
_LEAST = 20.0  # seconds that a song's score is longer than what is made of it
_GROOVE, _HITS = 6.0, 16  # seconds and hits that a drum pattern has more than


@dataclass(frozen=True)
class Library:
    """What there is to make music with."""

    drums: dict[str, dict[str, tuple[Shot, ...]]]  # role, as "kick" -> collection -> hits
    percussion: dict[str, tuple[Shot, ...]]  # instrument, as "shaker" -> hits
    basses: tuple[Instrument, ...]
    others: tuple[Instrument, ...]
    grooves: tuple[Path, ...]  # played drum patterns, MIDI
    songs: tuple[Path, ...]  # melody and accompaniment, MIDI


def build_library(clips: Iterable[Clip], seconds: float, say: Callable[[str], None] = print) -> Library:
    """Decode every one-shot among `clips`; instruments are the tuned ones that share a name and a collection.

    A file that cannot be decoded is named and left out, and so are scores that are too short for songs of `seconds`.
    """
    drums: dict[str, dict[str, list[Shot]]] = defaultdict(lambda: defaultdict(list))
    percussion: dict[str, list[Shot]] = defaultdict(list)
    tuned: dict[tuple[str, str, str], list[Shot]] = defaultdict(list)
    scores: list[Clip] = []
    hits: list[Clip] = []
    for clip in clips:
        drum = clip.kind == "one-shot" and clip.stem == "drums"
        note = clip.kind == "one-shot" and clip.stem in ("bass", "other") and clip.pitch is not None
        if clip.path.suffix == ".mid":
            scores.append(clip)
        elif drum or note:
            hits.append(clip)
    for clip, shot in decode_all(hits, _shot, say):
        if clip.stem != "drums":
            tuned[clip.stem, clip.collection, clip.path.stem.split("-m")[0]].append(shot)
        elif role := next((role for role in _ROLES if clip.instrument.startswith(role)), ""):
            drums["hihat-closed" if role == "hihat" else role][_kit(clip)].append(shot)
        else:
            percussion[clip.instrument].append(shot)
    useful = [clip for clip, good in decode_all(scores, partial(_is_useful, seconds=seconds), say) if good]
    grooves = [clip.path for clip in useful if clip.stem == "drums"]
    songs = [clip.path for clip in useful if clip.stem != "drums"]
    for there, what in (
        (drums, "drum hits"),
        (grooves, f"drum patterns of more than {_HITS} hits and {_GROOVE:g} s"),
        (songs, f"scores of more than {seconds + _LEAST:g} s with tracks MELODY and PIANO"),
    ):
        if not there:
            raise InputError(f"the corpus has no {what} to make music with")
    made = {key: Instrument(key[2], tuple(shots)) for key, shots in tuned.items() if len(shots) >= 5}
    return Library(
        drums={role: {kit: tuple(hits) for kit, hits in kits.items()} for role, kits in drums.items()},
        percussion={name: tuple(hits) for name, hits in percussion.items()},
        basses=tuple(instrument for (stem, _, _), instrument in made.items() if stem == "bass"),
        others=tuple(instrument for (stem, _, _), instrument in made.items() if stem == "other"),
        grooves=tuple(grooves),
        songs=tuple(songs),
    )


def _is_useful(clip: Clip, seconds: float) -> bool:
    """Tell whether a score is long enough, and has what music is made of."""
    score = read_midi(clip.path)
    if clip.stem == "drums":
        return len(next(iter(score.tracks.values()), [])) > _HITS and score.end > _GROOVE
    return {"MELODY", "PIANO"} <= set(score.tracks) and score.end > seconds + _LEAST


def _kit(clip: Clip) -> str:
    """Name the drum kit of a hit: the collection, or the machine where a collection holds several."""
    words = clip.path.stem.split("_")[-1].split("-")
    return f"{clip.collection} {words[1]} {words[2]}" if clip.collection == "drum-machines" else clip.collection


def _shot(clip: Clip) -> Shot:
    x = decode(clip.path)
    head = x[:, : 44100 // 2]  # of a long note, only the first half second says how loud it is
    return Shot(x.half(), clip.pitch or 0, float(head.square().mean().sqrt().clamp(min=1e-4)))
