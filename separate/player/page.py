"""One page that plays a song's stems: it holds their sound, asks no network for anything, and needs no server."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from separate.player.folder import Song
from separate.player.report import pictures
from separate.player.sound import CHIRP, LEAD, browser_rate
from separate.player.spectrogram import HIGHEST, LOWEST
from separate.player.tracks import Listening, Track

__all__ = ["page"]

COLOURS = {"vocals": 0, "drums": 1, "bass": 2, "other": 3, "guitar": 4, "piano": 5}
REST = (6, 7, 3, 4, 5, 1, 2)  # of stems with other names
VOICE = re.compile(r"(?<![a-z])(vocals?|voices?|singing|singer)(?![a-z])", re.IGNORECASE)
WITHOUT = re.compile(r"(?<![a-z])no[ _-]", re.IGNORECASE)  # of all after it: no_drums_vocals
HERTZ = {"100 Hz": 100, "1 kHz": 1_000, "10 kHz": 10_000}
TOO_QUIET = 1e-4


def page(song: Song, heard: Listening, report: dict[str, Any] | None = None) -> bytes:
    """Write the page of a song: HTML."""
    rate = browser_rate(heard.rate)
    tracks = [*heard.tracks, *([heard.original] if heard.original else [])]
    drawn = {name: f"data:image/png;base64,{text(picture)}" for name, picture in pictures(heard).items()}
    described = [describe(track, number, heard, drawn) for number, track in enumerate(heard.tracks)]
    start, length, first, last, _ = CHIRP
    data = {
        "rate": rate,
        "frames": round(heard.seconds * rate),
        "lead": LEAD,
        "chirp": {"start": start, "length": length, "first": first, "last": last},
        "hertz": [(name, np.log(hertz / LOWEST) / np.log(HIGHEST / LOWEST)) for name, hertz in HERTZ.items()],
        "tracks": described,
        "original": {"name": heard.original.name} if heard.original else None,
    }
    sounds = (
        f'<script type="text/plain" id="sound-{number}">{text(track.sound)}</script>'
        for number, track in enumerate(tracks)
    )
    parts = {
        "title": escape(song.title),
        "facts": escape(facts(heard)),
        "style": part("style.css"),
        "report": table(report, heard) if report else "",
        "data": json.dumps(data).replace("<", "\\u003c"),
        "engine": part("engine.js"),
        "player": "\n".join(map(part, ("sound.js", "view.js", "player.js"))),
        "sounds": "\n".join(sounds),
    }
    # One pass, so that a title that looks like a field is only a title.
    whole = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], part("page.html"))
    return whole.encode("utf-8", "replace")


def part(name: str) -> str:
    """Read a part of the page."""
    return files("separate.player").joinpath(name).read_text("utf-8")


def text(data: bytes) -> str:
    """Write bytes as text."""
    return b64encode(data).decode("ascii")


def describe(track: Track, number: int, heard: Listening, drawn: dict[str, str]) -> dict[str, Any]:
    """Arrange what the page needs of a stem."""
    loudest = max(float(other.peaks[:, 0].max()) for other in heard.tracks)
    # Soft passages are drawn a little higher than they are, or little would be seen of them.
    heights = np.round(255 * (track.peaks / max(loudest, TOO_QUIET)) ** 0.7).astype(np.uint8)
    return {
        "name": track.name,
        "colour": COLOURS.get(track.name.lower(), REST[number % len(REST)]),
        "voice": is_voice(track.name),
        "peaks": text(heights.tobytes()),
        "peaksWidth": len(heights) * track.peaks_step / heard.frames,  # of all columns, as a share of the lane
        "spectrogram": drawn[track.name],
        "spectrogramWidth": track.power.shape[1] * track.power_step / heard.frames,
    }


def is_voice(name: str) -> bool:
    """Tell by its name whether a stem is, or has in it, what karaoke turns down."""
    found = VOICE.search(name)
    return found is not None and not WITHOUT.search(name[: found.start()])


def facts(heard: Listening) -> str:
    """Say in a line what this is."""
    minutes, seconds = divmod(round(heard.seconds), 60)
    count = len(heard.tracks)
    return f"{count} {'stem' if count == 1 else 'stems'} · {minutes}:{seconds:02} · {heard.rate / 1000:g} kHz"


def table(report: dict[str, Any], heard: Listening) -> str:
    """Write the figures of a report as a table."""
    rows = [row(name, stem, number) for number, (name, stem) in enumerate(report["stems"].items())]
    if heard.original:
        rows.append(row("original", report["original"], 0))
    heads = ("", "Loudness", "Peak", "Share of the energy")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    notes = []
    if report["null_error_db"] is not None:
        notes.append(f"Sum of the stems minus the original: {signed(report['null_error_db'])} dB of its energy.")
    if report.get("times_real_time"):
        notes.append(f"Separated at {report['times_real_time']:g} × real time.")
    return (
        '<section class="report" aria-label="Report"><h2>Report</h2><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"<p>{escape(' '.join(notes))}</p></section>"
    )


def row(name: str, stem: dict[str, Any], number: int) -> str:
    """Write the figures of one stem."""
    part = stem.get("energy_share")
    colour = COLOURS.get(name.lower(), REST[number % len(REST)])
    bar = f'{part:.1%}<span class="bar c{colour}" style="--part: {part:.1%}"></span>' if part is not None else ""
    cells = (with_unit(stem["loudness_lufs"], "LUFS"), with_unit(stem["peak_dbfs"], "dBFS"), bar)
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def with_unit(value: float | None, unit: str) -> str:
    """Write a level; silence has none."""
    return f"{signed(value)} {unit}" if value is not None else "–"


def signed(value: float) -> str:
    """Write a number with a real minus."""
    return f"{value:.1f}".replace("-", "−")
