"""Plots of scores as SVG: a box for each stem and system, and a map of all songs.

Every mark says in its title what it stands for. Colours and type are in `report.html`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from separate.metrics.score import Statistics, decibels, statistics_of

__all__ = ["Values", "box_plot", "song_map", "tag"]

Values = Mapping[str, Mapping[str, Sequence[float]]]
"""Stem -> system -> one value a song, some of them NaN."""

WIDTH = 1032.0
LEFT = 40.0  # of a box plot: the figures of its axis
NAMES = 150.0  # of a map: the systems' names
COLOURS = 8  # that report.html knows

# The map goes from black over green to yellow, as figure 3 of the D2-GRU paper.
MAP = ((0.0, (22, 42, 36)), (0.35, (18, 88, 56)), (0.7, (104, 168, 48)), (1.0, (252, 230, 64)))


def tag(name: str, *inside: str, **attributes: Any) -> str:
    """Write an element; `inside` is markup. The attribute `class_` is `class`, and floats have one digit."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(f"{value:.1f}" if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(inside)}</{name}>"


def hint(text: str) -> str:
    """Write what is shown when the pointer is on a mark."""
    return tag("title", escape(text))


def label(text: str, x: float, y: float, anchor: str = "middle", **more: Any) -> str:
    """Write text at a place."""
    return tag("text", escape(text), x=x, y=y, text_anchor=anchor, **more)


def box_plot(metric: str, stems: Values, songs: Sequence[str], systems: Sequence[str]) -> str:
    """Draw a group of boxes a stem, in it a box a system with a dot a song."""
    height, top, bottom = 280.0, 10.0, 28.0
    low, high = limits(values for row in stems.values() for values in row.values())

    def y(value: float) -> float:
        return top + (high - min(max(value, low), high)) / (high - low) * (height - top - bottom)

    parts = [axis(low, high, y)]
    group = (WIDTH - LEFT) / len(stems)
    slot = min(64.0, group * 0.84 / len(systems))
    for column, (stem, row) in enumerate(stems.items()):
        middle = LEFT + group * (column + 0.5)
        parts.append(label(stem, middle, height - 6, class_="stem"))
        for name, values in row.items():
            place = systems.index(name)
            x = middle + slot * (place - (len(systems) - 1) / 2)
            drawn = box(x, slot * 0.6, values, y, f"{name}, {stem}: {metric}")
            drawn += dots(x, slot * 0.42, values, songs, y, (low, high))
            parts.append(tag("g", drawn, class_=f"s{place % COLOURS}"))
    what = f"{metric} in decibels, a group of boxes for each stem"
    return tag("svg", *parts, class_="plot", viewBox=f"0 0 {WIDTH:g} {height:g}", role="img", aria_label=what)


def limits(rows: Iterable[Sequence[float]]) -> tuple[float, float]:
    """Choose the ends of an axis: where the whiskers end, so that single songs far off press nothing together."""
    ends = [end for values in rows if any(map(math.isfinite, values)) for end in reach(values)] or [0.0]
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    return min(ends) - room, max(ends) + room


def reach(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the whiskers: the last songs within one and a half boxes."""
    lower, upper = statistics_of(values).quartiles
    most = 1.5 * (upper - lower)
    near = [value for value in values if lower - most <= value <= upper + most]
    return min(near), max(near)


def axis(low: float, high: float, y: Callable[[float], float]) -> str:
    """Draw lines at round figures."""
    step = next((step for step in (0.5, 1, 2, 5, 10, 20) if (high - low) / step <= 8), 50)
    parts = []
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        at = y(number * step)
        parts.append(tag("line", class_="grid" if number else "zero", x1=LEFT, x2=WIDTH, y1=at, y2=at))
        parts.append(label(f"{number * step:g}", LEFT - 8, at + 4, "end"))
    return "".join(parts)


def box(x: float, width: float, values: Sequence[float], y: Callable[[float], float], name: str) -> str:
    """Draw the middle half of some songs, the median, and whiskers."""
    facts = statistics_of(values)
    if not facts.tracks:
        return ""
    lower, upper = facts.quartiles
    lowest, highest = reach(values)
    left, right = x - width / 2, x + width / 2
    ends = ((upper, highest), (lower, lowest))
    whiskers = [tag("line", x1=x, x2=x, y1=y(start), y2=y(end)) for start, end in ends]
    frame = tag("rect", x=left, y=y(upper), width=width, height=max(y(lower) - y(upper), 1.0), rx=2)
    middle = tag("line", class_="median", x1=left, x2=right, y1=y(facts.median), y2=y(facts.median))
    return tag("g", hint(f"{name} {in_words(facts)}"), *whiskers, frame, middle, class_="box")


def in_words(facts: Statistics) -> str:
    """Write what a box shows."""
    half = f"half of the songs from {decibels(facts.quartiles[0])} to {decibels(facts.quartiles[1])} dB"
    return f"median {decibels(facts.median)} dB, {half}, {facts.tracks} songs" + (
        f", {facts.nan} without a value" if facts.nan else ""
    )


def dots(
    x: float,
    width: float,
    values: Sequence[float],
    songs: Sequence[str],
    y: Callable[[float], float],
    shown: tuple[float, float],
) -> str:
    """Draw a dot a song, spread a little so that they do not hide each other."""
    parts = []
    for number, (song, value) in enumerate(zip(songs, values, strict=True)):
        if math.isfinite(value):
            aside = (number * 0.618 % 1 - 0.5) * width  # multiples of the golden ratio fall between each other
            kind = "song" if shown[0] <= value <= shown[1] else "song beyond"
            words = hint(f"{song}: {decibels(value)} dB")
            parts.append(tag("circle", words, class_=kind, cx=x + aside, cy=y(value), r=2.0))
    return "".join(parts)


def song_map(metric: str, stems: Values, songs: Sequence[str]) -> str:
    """Draw a column a song and a row a stem and system; a cell's colour is the song's value."""
    order = sorted(range(len(songs)), key=lambda song: -first_mean(stems, song))
    size = min(max((WIDTH - NAMES) / len(songs), 11.0), 40.0)
    row_height, y = 18.0, 6.0
    parts = []
    for stem, row in stems.items():
        low, high = limits(row.values())
        parts.append(label(stem, 0, y + 13, "start", class_="stem"))
        parts.append(label(f"{low:.0f} to {high:.0f} dB", NAMES, y + 13, "start"))
        y += 20
        for name, values in row.items():
            parts.append(label(shortened(name), NAMES - 8, y + 13, "end"))
            for column, song in enumerate(order):
                value = values[song]
                known = math.isfinite(value)
                parts.append(
                    tag(
                        "rect",
                        hint(f"{songs[song]}, {stem}, {name}: {metric} {decibels(value)}{' dB' if known else ''}"),
                        class_="cell" if known else "cell none",
                        x=NAMES + column * size,
                        y=y,
                        width=size,
                        height=row_height,
                        **({"fill": colour((value - low) / (high - low))} if known else {}),
                    )
                )
            y += row_height
        y += 8
    parts += [
        label(shortened(songs[song]), 0, 0, "end", transform=f"translate({at:.1f} {y + 4:.1f}) rotate(-55)")
        for column, song in enumerate(order)
        if (at := NAMES + (column + 0.5) * size + 4)
    ]
    longest = max(len(shortened(song)) for song in songs)
    width, height = max(WIDTH, NAMES + len(songs) * size), y + 24 + 5.5 * longest
    what = f"{metric} of every song, a row for each stem and system"
    return tag(
        "svg", *parts, width=width, height=height, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=what
    )


def first_mean(stems: Values, song: int) -> float:
    """Return what the first system scored on a song, over all stems."""
    values = [next(iter(row.values()))[song] for row in stems.values()]
    return statistics_of(values).mean if any(map(math.isfinite, values)) else -math.inf


def colour(share: float) -> str:
    """Choose a colour of the map, 0 to 1 from black to yellow."""
    share = min(max(share, 0.0), 1.0)
    for (start, one), (stop, other) in pairwise(MAP):
        if share <= stop:
            part = (share - start) / (stop - start)
            return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(one, other, strict=True))
    raise AssertionError(share)


def shortened(name: str) -> str:
    """Keep a name that fits beside a row."""
    return name if len(name) <= 22 else name[:21] + "…"
