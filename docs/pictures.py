"""Draw images/vocals.png, and print the figures beside it: python docs/pictures.py FOLDER.

FOLDER holds the true stems of a song. Their sum goes through the default model; what is drawn are, one below the other,
the song, the vocals that were found in it, and the true ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from separate.datasets import find_tracks, read_track
from separate.player.png import png
from separate.player.spectrogram import Spectrogram, colours, shades
from separate.separator import ArraySong, separate

PICTURE = Path(__file__).parent / "images" / "vocals.png"
RATE = 44100


def power(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the spectrogram of (channel, time): (band, column)."""
    spectrogram = Spectrogram(RATE, len(x))
    spectrogram.process(x)
    return spectrogram.power()


def main() -> None:
    """Separate, say how well, and draw."""
    folder = Path(sys.argv[1])
    (track,) = (track for track in find_tracks(folder.parent) if track.name == folder.name)
    recording = read_track(track, rate=RATE)
    song = recording.mixture.numpy()
    stems = separate(ArraySong(song, RATE))
    for name, stem in recording.stems.items():
        truth = stem.numpy()
        errors = [10 * np.log10((truth**2).sum() / ((truth - x) ** 2).sum()) for x in (stems[name], song / 4)]
        print(f"| {name} | {errors[0]:.1f} | {errors[1]:.1f} |")
    parts = [power(x) for x in (song, stems["vocals"], recording.stems["vocals"].numpy())]
    rows = [shades(part, max(each.max() for each in parts)) for part in parts]
    gap = np.full((6, rows[0].shape[1]), len(colours()) - 1, np.uint8)
    PICTURE.write_bytes(png(np.concatenate([rows[0], gap, rows[1], gap, rows[2]]), colours()))


if __name__ == "__main__":
    main()
