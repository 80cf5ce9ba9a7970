"""Results side by side on one page that needs nothing else: a table, box plots, a map of all songs; no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from separate.evaluation.plots import COLOURS, Values, box_plot, song_map, tag
from separate.evaluation.results import Results
from separate.metrics.score import METRICS, decibels, in_order, median, table

__all__ = ["page"]

FIGURES = "Decibels, higher is better: medians over songs, of the medians over each song's frames."
BOXES = (
    "A dot is a song. The box holds the middle half of them, the line in it is their median; whiskers reach to the "
    "last songs within one and a half boxes. Hollow dots on an edge lie further out."
)
SONGS = (
    "A column is a song, in the order of the first system's mean. Every stem has colours of its own range. A cell "
    "without a colour has no value."
)


def page(results: Sequence[Results]) -> str:
    """Draw results side by side on a page of HTML."""
    songs = list(dict.fromkeys(song for result in results for song in result.tracks))
    names = [result.name for result in results]
    values = medians(results, songs)
    heading = ", ".join(names)
    parts = [tag("h1", escape(heading)), paragraph(f"{counted(len(songs), 'song')}. {FIGURES}"), table_of(results)]
    parts += [tag("h2", "How songs differ"), paragraph(BOXES), legend(names)]
    for metric, stems in values.items():
        parts += [tag("h3", metric), box_plot(metric, stems, songs, names)]
    for metric, stems in list(values.items())[:1]:  # SDR, where there is one
        parts += [tag("h2", "Song by song"), paragraph(SONGS), scale()]
        parts += [tag("div", song_map(metric, stems, songs), class_="scroll")]
        parts += [tag("details", tag("summary", f"{metric} of every song in figures"), figures(stems, songs))]
    parts += [tag("h2", "How it was made"), *map(origin, results)]
    template = Template(files("separate.evaluation").joinpath("report.html").read_text("utf-8"))
    return template.substitute(title=escape(heading), body="\n".join(parts))


def medians(results: Sequence[Results], songs: Sequence[str]) -> Mapping[str, Values]:
    """Arrange the medians of all songs for plots: metric -> stem -> system -> one value a song."""
    arranged: dict[str, dict[str, dict[str, list[float]]]] = {}
    for metric in dict.fromkeys(metric for metrics in METRICS.values() for metric in metrics):
        measured = {
            (stem, result.name)
            for result in results
            for scores in result.tracks.values()
            for stem in scores
            if metric in scores[stem]
        }
        for stem in in_order(stem for stem, _ in measured):
            arranged.setdefault(metric, {})[stem] = {
                result.name: [median(result.tracks.get(song, {}).get(stem, {}).get(metric, ())) for song in songs]
                for result in results
                if (stem, result.name) in measured
            }
    return arranged


def paragraph(text: str) -> str:
    """Write a paragraph."""
    return tag("p", escape(text))


def counted(number: int, thing: str) -> str:
    """Write a number of things."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def legend(names: Sequence[str]) -> str:
    """Say which colour is whose."""
    keys = (tag("span", class_=f"key s{number % COLOURS}") + escape(name) for number, name in enumerate(names))
    return tag("ul", *(tag("li", key) for key in keys), class_="legend")


def scale() -> str:
    """Say which colour is better."""
    return tag("div", "lower", tag("span", class_="ramp"), "higher", class_="scale")


def table_of(results: Sequence[Results]) -> str:
    """Write the medians as papers do, the best of each column bold where there is more than one system."""
    heads, rows = table({result.name: result.tracks for result in results})
    blocks: list[list[list[str]]] = []
    for row in rows:
        blocks = [*blocks, [row]] if row[0] else [*blocks[:-1], [*blocks[-1], row]]
    bodies = []
    for block in blocks:
        best = [max(column, key=number) for column in zip(*(row[2:] for row in block), strict=True)]
        bodies.append("".join(table_row(row, best if len(block) > 1 else []) for row in block))
    head = tag("thead", tag("tr", *(tag("th", escape(head), scope="col") for head in heads)))
    inside = "".join(tag("tbody", body, class_="metric") for body in bodies)
    return tag("div", tag("table", head, inside), class_="scroll")


def table_row(row: Sequence[str], best: Sequence[str]) -> str:
    """Write a row of the table: metric, system, figures."""
    cells = [
        tag("td", escape(cell), **({"class_": "best"} if best and cell == best[column] and cell else {}))
        for column, cell in enumerate(row[2:])
    ]
    return tag("tr", *(tag("th", escape(text), class_="name") for text in row[:2]), *cells)


def number(cell: str) -> float:
    """Read a figure of the table; what is none is less than all."""
    try:
        return float(cell)
    except ValueError:
        return float("-inf")


def figures(stems: Values, songs: Sequence[str]) -> str:
    """Write a table of all songs."""
    columns = [(stem, name, values) for stem, row in stems.items() for name, values in row.items()]
    above = (tag("th", escape(stem), colspan=len(row), scope="colgroup") for stem, row in stems.items())
    below = (tag("th", escape(name), scope="col") for _, name, _ in columns)
    head = tag("thead", tag("tr", tag("th"), *above), tag("tr", tag("th"), *below))
    rows = (
        tag("tr", tag("th", escape(song), class_="name"), *(tag("td", decibels(v[place])) for _, _, v in columns))
        for place, song in enumerate(songs)
    )
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll")


def origin(result: Results) -> str:
    """Say how results were made, and what they lack."""
    facts = {name: value for name, value in result.made.items() if value not in (None, {}, [])}
    lines = {"songs": str(len(result.tracks)), **{name: str(value) for name, value in facts.items()}}
    if result.command:
        lines["command"] = result.command
    lines |= {f"version of {name}": version for name, version in result.versions.items()}
    lines |= {f"failed: {song}": reason for song, reason in result.failed.items()}
    inside = (tag("dt", escape(name)) + tag("dd", escape(value)) for name, value in lines.items())
    return tag("h3", escape(result.name)) + tag("dl", *inside)
