"""The pool: songs as stems, ready to be read anywhere at once.

    python -m separate.training.pool CORPUS POOL --songs 200

A pool is a folder of songs, each a folder of `<stem>.npy`: float16 (channel, time) at 44.1 kHz, memory-mapped. Songs
under `songs/` are recordings, those under `synth/` are made by `synth.py` and `singing.py`, and numbered by the seed
that made them. Every stem is at the same level: mixing decides how loud it will be.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from separate.errors import InputError, SeparateError
from separate.training.augment import level
from separate.training.corpus import Clip, decode, read_manifest
from separate.training.library import build_library
from separate.training.singing import Voices, make_vocals
from separate.training.synth import make_song

__all__ = ["Pool", "add_recordings", "add_song", "main", "read_corpus", "read_voices"]

SECONDS = 45.0  # of a synthetic song


class Pool:
    """The songs in a folder and where their stems are."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.find()
        if not self.songs["songs"] and not self.songs["synth"]:
            raise InputError(f"{folder}: no songs; a pool holds songs/<name>/<stem>.npy and synth/<name>/<stem>.npy")

    def find(self) -> None:
        """Look for songs."""
        self.songs = {
            kind: [song for song in sorted(self.folder.glob(f"{kind}/[!.]*")) if song.is_dir()]
            for kind in ("songs", "synth")
        }

    def draw(self, rng: np.random.Generator, recorded: float) -> Path:
        """Draw a song: a recorded one with these odds."""
        kind = "songs" if (rng.random() < recorded and self.songs["songs"]) or not self.songs["synth"] else "synth"
        songs = self.songs[kind]
        return songs[rng.integers(len(songs))]


def add_song(folder: Path, stems: Mapping[str, Tensor]) -> None:
    """Write the stems of a song, which appears in the pool when it is complete."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True, exist_ok=True)
    for stem, x in stems.items():
        np.save(part / f"{stem}.npy", x.numpy().astype(np.float16))
    part.rename(folder)


def add_recordings(clips: Sequence[Clip], folder: Path) -> None:
    """Decode every recorded song among `clips` into `folder`, unless it is there already."""
    for song in sorted({clip.path.parent for clip in clips if clip.kind == "stem"}):
        if not (folder / song.name).exists():
            stems = [clip for clip in clips if clip.path.parent == song and clip.kind == "stem"]
            add_song(folder / song.name, {clip.stem: level(decode(clip.path)) for clip in stems})


def read_corpus(folder: Path) -> list[Clip]:
    """Read the manifests of a corpus: its own, and those of its folders `singing` and `voices`, all vocals."""
    clips = read_manifest(folder)
    for part in ("singing", "voices"):
        if (folder / part / "manifest.csv").exists():
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


def read_voices(clips: Sequence[Clip]) -> Voices:
    """Decode all that sings, in groups."""
    groups, odds = [], []
    for kinds, share in _VOICES:
        chosen = [clip for clip in clips if clip.stem == "vocals" and clip.kind in kinds]
        if chosen:
            groups.append([level(decode(clip.path).mean(0, keepdim=True)).half() for clip in chosen])
            odds.append(share)
    if not groups:
        raise InputError("the corpus has no vocals")
    return Voices(groups, odds)


def main(arguments: Sequence[str]) -> int:
    """Fill a pool from a corpus."""
    parser = argparse.ArgumentParser(prog="python -m separate.training.pool", description=main.__doc__)
    parser.add_argument("corpus", type=Path, help="a folder with manifest.csv")
    parser.add_argument("pool", type=Path)
    parser.add_argument("--songs", type=int, default=200, help="synthetic songs to make, 45 s each (default: 200)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        clips = read_corpus(options.corpus)
        add_recordings(clips, options.pool / "songs")
        library, voices = build_library(clips), read_voices(clips)
        for seed in range(options.first, options.first + options.songs):
            folder = options.pool / "synth" / f"{seed:05d}"
            if not folder.exists():
                rng = np.random.default_rng(seed)
                stems = make_song(library, rng, SECONDS)
                add_song(folder, {**stems, "vocals": make_vocals(voices, rng, SECONDS)})
                print(f"{folder.name}: {options.first + options.songs - seed - 1} to go")
    except SeparateError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
