"""From frames to medians: what a track scored, in museval's own JSON; what many tracks scored; tables as in papers."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["METRICS", "ORDER", "Scores", "Statistics", "decode", "encode", "in_order", "median", "summarise", "table"]

Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""What a track scored: stem -> metric -> one value a frame in dB, NaN where a frame has none."""

METRICS = {"v4": ("SDR", "SIR", "SAR", "ISR"), "v3": ("SDR", "SIR", "SAR"), "si-sdr": ("SI-SDR",), "sdr": ("SDR",)}
"""What each way of measuring yields, in the order of the papers' tables."""

ORDER = ("vocals", "drums", "bass", "other", "accompaniment")


@dataclass(frozen=True)
class Statistics:
    """What one stem scored over all tracks in one metric. Tracks without a value do not count, but are counted."""

    median: float
    mean: float
    std: float  # of the sample; NaN for a single track
    quartiles: tuple[float, float]
    tracks: int  # that have a value
    nan: int  # that have none


def encode(scores: Scores, duration: float = 1.0, **more: Any) -> str:
    """Write what a track scored as museval does: five digits, NaN for what is not finite. `more` is kept beside it.

    >>> decode(json.loads(encode({"vocals": {"SDR": [6.123456]}})))
    {'vocals': {'SDR': [6.12346]}}
    """
    targets = [
        {
            "name": stem,
            "frames": [
                {
                    "time": index * duration,
                    "duration": duration,
                    "metrics": {metric: rounded(value) for metric, value in zip(metrics, frame, strict=True)},
                }
                for index, frame in enumerate(zip(*metrics.values(), strict=True))
            ],
        }
        for stem, metrics in scores.items()
    ]
    return json.dumps({"targets": targets, **more}, indent=2)


def rounded(value: float) -> float:
    """Keep five digits of what is finite."""
    return round(value, 5) if math.isfinite(value) else math.nan


def decode(document: Mapping[str, Any]) -> Scores:
    """Read what a track scored: a document of `encode`'s or museval's. Raises KeyError, TypeError or ValueError."""
    scores: dict[str, dict[str, list[float]]] = {}
    for target in document["targets"]:
        metrics = scores.setdefault(str(target["name"]), {})
        for frame in target["frames"]:
            for metric, value in frame["metrics"].items():
                metrics.setdefault(metric, []).append(float(value))
    return scores


def median(frames: Iterable[float]) -> float:
    """Take the median of those that are finite, as museval does; NaN if none is.

    >>> median([1.0, float("nan"), 2.0])
    1.5
    """
    finite = [value for value in frames if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


def in_order(stems: Iterable[str]) -> list[str]:
    """Sort stems as papers do; what they do not know comes last, by name."""
    rank = {stem: number for number, stem in enumerate(ORDER)}
    return sorted(set(stems), key=lambda stem: (rank.get(stem, len(ORDER)), stem))


def summarise(tracks: Mapping[str, Scores]) -> dict[str, dict[str, Statistics]]:
    """Summarise over tracks: stem -> metric -> statistics of the tracks' medians over frames."""
    return {
        stem: {
            metric: statistics_of([median(scores.get(stem, {}).get(metric, ())) for scores in tracks.values()])
            for metric in dict.fromkeys(metric for scores in tracks.values() for metric in scores.get(stem, {}))
        }
        for stem in in_order(stem for scores in tracks.values() for stem in scores)
    }


def statistics_of(values: Sequence[float]) -> Statistics:
    """Count, and describe what is finite."""
    finite = [value for value in values if math.isfinite(value)]
    nan = len(values) - len(finite)
    if len(finite) < 2:
        only = finite[0] if finite else math.nan
        return Statistics(only, only, math.nan, (only, only), len(finite), nan)
    lower, middle, upper = statistics.quantiles(finite, n=4, method="inclusive")
    return Statistics(middle, statistics.fmean(finite), statistics.stdev(finite), (lower, upper), len(finite), nan)


def table(systems: Mapping[str, Mapping[str, Scores]]) -> tuple[list[str], list[list[str]]]:
    """Lay out medians as papers do: columns are stems, rows are systems, one block of rows a metric.

    `systems` are their names -> tracks -> scores. Returns the heads of the columns, and rows whose first cell is empty
    where it would repeat the metric. An empty cell: the stem was not measured; "–": it has no value.
    """
    summaries = {name: summarise(tracks) for name, tracks in systems.items()}
    stems = in_order(stem for summary in summaries.values() for stem in summary)
    found = {metric for summary in summaries.values() for metrics in summary.values() for metric in metrics}
    known = [metric for metrics in METRICS.values() for metric in metrics]
    rows = []
    for metric in sorted(found, key=lambda name: (known.index(name) if name in known else len(known), name)):
        first = metric
        for name, summary in summaries.items():
            if any(metric in metrics for metrics in summary.values()):
                cells = [summary[stem].get(metric) if stem in summary else None for stem in stems]
                rows.append([first, name, *("" if cell is None else decibels(cell.median) for cell in cells)])
                first = ""
    return ["", "", *("accomp." if stem == "accompaniment" else stem for stem in stems)], rows


def decibels(value: float) -> str:
    """Write a figure as papers do."""
    return f"{value:.2f}" if math.isfinite(value) else "–"
