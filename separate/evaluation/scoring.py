"""What is measured against what: all stems that are there against each other, then vocals against everything else.

That is how museval scores a track of MUSDB18: what stands under vocals is of the second comparison, where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from separate.datasets import Song, accompaniment
from separate.errors import InputError
from separate.metrics.bsseval import bss_eval
from separate.metrics.bsseval3 import bss_eval_sources
from separate.metrics.score import METRICS, Scores, in_order
from separate.metrics.simple import sdr, si_sdr

__all__ = ["alike", "merged", "missing", "score"]

ROUNDED = 1e-6  # of a mixture's energy: what rounding makes of a sum of stems
INCOMPLETE = 0.01  # more than a lossy or mastered mixture differs from the sum of its stems
TRIMMED = 1.0  # seconds by which estimates may be longer or shorter than their references

Pairs = dict[str, tuple[Tensor, Tensor]]  # stem -> reference and estimate, each (channel, time)


def alike(track: str, song: Song, estimates: Song) -> tuple[Song, Song, tuple[str, ...]]:
    """Make references and estimates equally long, and say so. InputError: they cannot be of one song."""
    for ours, theirs, what in (
        (song.rate, estimates.rate, "Hz"),
        (len(song.mixture), len(estimates.mixture), "channels"),
    ):
        if ours != theirs:
            raise InputError(f"{track}: the references have {ours} {what}, the estimates {theirs}; they must agree")
    ours, theirs = song.mixture.shape[1], estimates.mixture.shape[1]
    if ours == theirs:
        return song, estimates, ()
    length, seconds = min(ours, theirs), abs(ours - theirs) / song.rate
    how = f"the {'references' if ours < theirs else 'estimates'} are {seconds:.3f} s shorter than the others"
    if seconds > TRIMMED:
        raise InputError(f"{track}: {how}; they cannot be of one song")
    return cut(song, length), cut(estimates, length), (f"{track}: {how}; all were trimmed",)


def cut(song: Song, length: int) -> Song:
    """Keep the first samples of a song."""
    stems = {stem: samples[:, :length] for stem, samples in song.stems.items()}
    return replace(song, stems=stems, mixture=song.mixture[:, :length])


def merged(song: Song, merge: Mapping[str, tuple[str, ...]]) -> Song:
    """Sum stems up, as far as they are there: `{"other": ("bass", "other")}` leaves one stem, `other`."""
    stems = dict(song.stems)
    for stem, parts in merge.items():
        found = [stems.pop(part) for part in parts if part in stems]
        if found and stem in stems:
            raise InputError(f"--merge {'+'.join(parts)}={stem}: there is a stem {stem} already; add it to the sum")
        if found:
            stems[stem] = reduce(torch.add, found)
    return replace(song, stems=stems)


def missing(song: Song, estimates: Song) -> list[str]:
    """Say which stems are not scored because only the references, or only the estimates, have them."""
    sides = (("estimate", song.stems, estimates.stems), ("reference", estimates.stems, song.stems))
    return [
        f"no {what} of {stem}: it is not scored"
        for what, there, where in sides
        for stem in there
        if stem not in where and stem != "accompaniment" and "accompaniment" not in where
    ]


def score(song: Song, estimates: Song, metric: str) -> tuple[Scores, float, list[str]]:
    """Score the estimates of a track: what each stem has, the seconds of a frame, and notes on what has no value."""
    scores: dict[str, dict[str, list[float]]] = {}
    notes: dict[str, None] = {}  # in order, each once
    for pairs in comparisons(song, estimates):
        heard = {stem: pair for stem, pair in pairs.items() if pair[0].any()}
        nothing = {name: torch.empty(0, 1) for name in METRICS[metric]}
        frames = compare(heard, song.rate, metric) if heard else nothing
        for row, stem in enumerate(heard):
            scores[stem] = {name: values[row].tolist() for name, values in frames.items()}
            if metric != "sdr" and not heard[stem][1].any():
                whose = "it" if metric == "si-sdr" else "what is measured beside it"
                as_there = "" if metric == "si-sdr" else ", as in museval"
                notes[f"the estimate of {stem} is silent: {whose} has no value{as_there}"] = None
        for stem in pairs.keys() - heard.keys():
            scores[stem] = {name: [math.nan] * values.shape[1] for name, values in frames.items()}
            notes[f"{stem} is silent in the references: it has no value"] = None
    if not scores:
        have = f"references of {', '.join(song.stems)}, estimates of {', '.join(estimates.stems)}"
        raise InputError(f"nothing can be scored: there are {have}")
    duration = 1.0 if metric == "v4" else song.mixture.shape[1] / song.rate
    return {stem: scores[stem] for stem in in_order(scores)}, duration, list(notes)


def comparisons(song: Song, estimates: Song) -> list[Pairs]:
    """Pair references and estimates: all stems, if that is more than the vocals; then the vocals and all else."""
    stems = [stem for stem in in_order(song.stems) if stem in estimates.stems and stem != "accompaniment"]
    found: list[Pairs] = []
    if set(stems) - {"vocals"}:
        found.append({stem: (song.stems[stem], estimates.stems[stem]) for stem in stems})
    lacking = estimates.stems.keys() - song.stems.keys()
    ours = halves(song.stems, song.mixture, lacking if has_more(song, INCOMPLETE) else ()) or voiceless(song)
    theirs = halves(estimates.stems, song.mixture, song.stems)
    if ours and theirs:
        found.append({stem: (ours[stem], theirs[stem]) for stem in ours})
    return found


def halves(stems: Mapping[str, Tensor], mixture: Tensor, wanted: Collection[str] = ()) -> dict[str, Tensor]:
    """Divide a song into vocals and accompaniment; empty if that cannot be done.

    If some of those `wanted` are not among the stems, the accompaniment is the mixture without the vocals.
    """
    if "accompaniment" in stems:
        rest = stems["accompaniment"]
    elif "vocals" not in stems:
        return {}
    elif set(wanted) - {"accompaniment"} <= set(stems):
        rest = accompaniment(stems, mixture)
    else:
        rest = mixture - stems["vocals"]
    return {"vocals": stems["vocals"] if "vocals" in stems else mixture - rest, "accompaniment": rest}


def voiceless(song: Song) -> dict[str, Tensor]:
    """Take a song whose stems are all there, without vocals among them, for accompaniment; else empty."""
    if has_more(song, ROUNDED):
        return {}
    return {"vocals": torch.zeros_like(song.mixture), "accompaniment": song.mixture}


def has_more(song: Song, share: float) -> bool:
    """Tell whether the stems leave out more than a share of the mixture's energy."""
    rest = song.mixture - sum(song.stems.values(), torch.zeros_like(song.mixture))
    return bool(rest.square().sum() > share * song.mixture.square().sum())


def compare(pairs: Pairs, rate: int, metric: str) -> dict[str, Tensor]:
    """Measure estimates against references: the metric's name -> (source, frame)."""
    references = torch.stack([reference for reference, _ in pairs.values()])  # (source, channel, time)
    estimates = torch.stack([estimate for _, estimate in pairs.values()])
    if metric == "v4":
        frames = bss_eval(references, estimates, window=rate, hop=rate)
        return {name: getattr(frames, name.lower()) for name in METRICS[metric]}
    if metric == "v3":  # it knows one channel only
        ratios = bss_eval_sources(references.mean(1), estimates.mean(1))
        return {name: getattr(ratios, name.lower())[:, None] for name in METRICS[metric]}
    measure = {"si-sdr": si_sdr, "sdr": sdr}[metric]
    return {METRICS[metric][0]: measure(references, estimates)[:, None]}
