"""The sample library: every one-shot and score of a corpus, sorted into instruments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from separate.errors import InputError
from separate.training.corpus import Clip, decode, decode_all
from separate.training.instruments import Instrument, Shot

__all__ = ["Library", "build_library"]

_KIT = ("kick", "snare", "hihat", "tom", "ride", "crash", "clap", "rim", "snare-sidestick")


@dataclass(frozen=True)
class Library:
    """What there is to make music with."""

    drums: dict[str, dict[str, tuple[Shot, ...]]]  # role, as "kick" -> collection -> hits
    percussion: dict[str, tuple[Shot, ...]]  # instrument, as "shaker" -> hits
    basses: tuple[Instrument, ...]
    others: tuple[Instrument, ...]
    grooves: tuple[Path, ...]  # played drum patterns, MIDI
    songs: tuple[Path, ...]  # melody and accompaniment, MIDI


def build_library(clips: Iterable[Clip], say: Callable[[str], None] = print) -> Library:
    """Decode every one-shot among `clips`; instruments are the tuned ones that share a name and a collection.

    A file that cannot be decoded is named and left out.
    """
    drums: dict[str, dict[str, list[Shot]]] = defaultdict(lambda: defaultdict(list))
    percussion: dict[str, list[Shot]] = defaultdict(list)
    tuned: dict[tuple[str, str, str], list[Shot]] = defaultdict(list)
    grooves: list[Path] = []
    songs: list[Path] = []
    hits: list[Clip] = []
    for clip in clips:
        drum = clip.kind == "one-shot" and clip.stem == "drums"
        note = clip.kind == "one-shot" and clip.stem in ("bass", "other") and clip.pitch is not None
        if clip.path.suffix == ".mid":
            (grooves if clip.stem == "drums" else songs).append(clip.path)
        elif drum or note:
            hits.append(clip)
    for clip, shot in decode_all(hits, _shot, say):
        if clip.stem != "drums":
            tuned[clip.stem, clip.collection, clip.path.stem.split("-m")[0]].append(shot)
        elif clip.instrument.startswith(_KIT):
            drums[clip.instrument][_kit(clip)].append(shot)
        else:
            percussion[clip.instrument].append(shot)
    if not (drums and grooves and songs):
        raise InputError("the corpus has no drum hits, no drum patterns or no songs to make music with")
    made = {key: Instrument(key[2], tuple(shots)) for key, shots in tuned.items() if len(shots) >= 5}
    return Library(
        drums={role: {kit: tuple(hits) for kit, hits in kits.items()} for role, kits in drums.items()},
        percussion={name: tuple(hits) for name, hits in percussion.items()},
        basses=tuple(instrument for (stem, _, _), instrument in made.items() if stem == "bass"),
        others=tuple(instrument for (stem, _, _), instrument in made.items() if stem == "other"),
        grooves=tuple(grooves),
        songs=tuple(songs),
    )


def _kit(clip: Clip) -> str:
    """Name the drum kit of a hit: the collection, or the machine where a collection holds several."""
    words = clip.path.stem.split("_")[-1].split("-")
    return f"{clip.collection} {words[1]} {words[2]}" if clip.collection == "drum-machines" else clip.collection


def _shot(clip: Clip) -> Shot:
    x = decode(clip.path)
    head = x[:, : 44100 // 2]  # of a long note, only the first half second says how loud it is
    return Shot(x.half(), clip.pitch or 0, float(head.square().mean().sqrt().clamp(min=1e-4)))
