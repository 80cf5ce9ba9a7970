"""What was measured of a song's stems: `report.json` and a picture of each."""

from __future__ import annotations

import json
import math
from typing import Any

from separate.player.folder import Song
from separate.player.png import png
from separate.player.spectrogram import HIGHEST, LOWEST, RANGE, colours, shades
from separate.player.tracks import Listening, Track

__all__ = ["pictures", "report"]

GENERATOR = "separate player"  # how our files are known


def pictures(heard: Listening) -> dict[str, bytes]:
    """Draw the spectrogram of every track as PNG; what is equally bright in them is equally loud."""
    tracks = [*heard.tracks, *([heard.original] if heard.original else [])]
    loudest = max(float(track.power.max()) for track in tracks)
    palette = colours()
    return {track.name: png(shades(track.power, loudest), palette, GENERATOR) for track in tracks}


def report(song: Song, heard: Listening, extra: dict[str, Any]) -> dict[str, Any]:
    """Arrange all figures as plain data; `extra` is what else is known, such as the speed."""
    total = sum(track.energy for track in heard.tracks)
    stems = {
        track.name: {"file": song.stems[track.name].name, "energy_share": share(track.energy, total)} | figures(track)
        for track in heard.tracks
    }
    facts: dict[str, Any] = {"generator": GENERATOR, "title": song.title, "seconds": round(heard.seconds, 3)}
    facts |= {"rate": heard.rate, "stems": stems}
    if heard.original:
        facts["original"] = figures(heard.original)
    facts["null_error_db"] = rounded(heard.null_error)
    facts["spectrograms"] = {"from_hz": LOWEST, "to_hz": HIGHEST, "range_db": RANGE}
    return facts | extra


def figures(track: Track) -> dict[str, Any]:
    """Arrange what was measured of one track."""
    return {"loudness_lufs": rounded(track.loudness), "peak_dbfs": rounded(in_decibels(float(track.peaks[:, 0].max())))}


def share(part: float, whole: float) -> float | None:
    """Return a part of all energy, if there is any."""
    return round(part / whole, 4) if whole else None


def in_decibels(amplitude: float) -> float:
    """Turn an amplitude into decibels of full scale."""
    return 20 * math.log10(amplitude) if amplitude else -math.inf


def rounded(value: float | None) -> float | None:
    """Keep two digits, and nothing of what is infinite: JSON has no such number."""
    return round(value, 2) if value is not None and math.isfinite(value) else None


def encoded(facts: dict[str, Any]) -> bytes:
    """Write a report as text. What is no text in a file's name is spelled out."""
    return (json.dumps(facts, indent=2) + "\n").encode("ascii")
