"""`separate evaluate`: how well songs are separated, where the true stems are known."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from separate.batch.plan import model_label
from separate.cli.models import complete_model
from separate.cli.options import (
    MODEL_HELP,
    SPEED,
    TALK,
    Batch,
    Device,
    GriffinLim,
    Inner,
    Overlap,
    Precision,
    Quiet,
    Segment,
    Shifts,
    Wiener,
    option,
    part,
)
from separate.cli.progress import Reporter
from separate.errors import UsageError

if TYPE_CHECKING:
    from separate.datasets import Track
    from separate.evaluation.estimates import System
    from separate.evaluation.results import Results
    from separate.evaluation.run import Outcome, Plan

__all__ = ["evaluate_command"]

# The groups of options in the help.
WHOSE, WHICH, RESULTS = "Whose stems are scored: one of these", "On which songs", "What is measured and written"

TRACKS_HELP = "The first N, or those called so (* and ? stand for more); can be repeated."
MERGE_HELP = "Sum stems up before scoring: bass+other=other. Can be repeated."
OUT_HELP = "Folder for the results."
METRIC_HELP = "BSS Eval v4 or v3, SI-SDR, or SDR of the whole song."
COMPARE_HELP = "Show results of earlier runs beside. Alone: score nothing."


class Oracle(StrEnum):
    """Filters that know the true stems."""

    irm = "irm"
    mwf = "mwf"


class Baseline(StrEnum):
    """Methods that learn nothing."""

    mixture = "mixture"
    repet = "repet"
    hpss = "hpss"


class Layout(StrEnum):
    """How a data set lies in its folder."""

    auto = "auto"
    musdb18_hq = "musdb18-hq"
    musdb18 = "musdb18"
    dsd100 = "dsd100"
    mir_1k = "mir-1k"
    folder = "folder"


class Metric(StrEnum):
    """Ways of measuring."""

    v4 = "v4"
    v3 = "v3"
    si_sdr = "si-sdr"
    sdr = "sdr"


def evaluate_command(
    ctx: typer.Context,
    estimates: Annotated[
        Path | None, option(WHOSE, "Those in a folder: TRACK/STEM.*, as `separate` writes them.", metavar="DIR")
    ] = None,
    model: Annotated[
        str | None, option(WHOSE, MODEL_HELP, "--model", "-m", autocompletion=complete_model, metavar="NAME")
    ] = None,
    oracle: Annotated[Oracle | None, option(WHOSE, "Masks that know the truth: the ceiling of such models.")] = None,
    baseline: Annotated[Baseline | None, option(WHOSE, "A method that learns nothing: the floor.")] = None,
    dataset: Annotated[
        Path | None, option(WHICH, "Folder of songs with their stems.", "--dataset", "--references", metavar="DIR")
    ] = None,
    layout: Annotated[Layout, option(WHICH, "How they lie in it.")] = Layout.auto,
    subset: Annotated[
        str | None, option(WHICH, "train, test, or a folder in it.", metavar="NAME", show_default="all")
    ] = None,
    tracks: Annotated[list[str] | None, option(WHICH, TRACKS_HELP, metavar="N|NAME", show_default="all")] = None,
    start: Annotated[str, option(WHICH, "Only from here: seconds or m:s.", metavar="TIME")] = "0",
    end: Annotated[str | None, option(WHICH, "Only up to here.", metavar="TIME", show_default="the song's end")] = None,
    metric: Annotated[Metric, option(RESULTS, METRIC_HELP)] = Metric.v4,
    merge: Annotated[list[str] | None, option(RESULTS, MERGE_HELP, metavar="A+B=C")] = None,
    out: Annotated[
        Path | None, option(RESULTS, OUT_HELP, "--out", "-o", metavar="DIR", show_default="results/NAME")
    ] = None,
    keep_stems: Annotated[bool, option(RESULTS, "Write the stems too, in DIR/stems.", "--keep-stems")] = False,
    force: Annotated[bool, option(RESULTS, "Score again what was scored before.", "--force")] = False,
    html: Annotated[Path | None, option(RESULTS, "Write a report: one page with plots.", metavar="FILE")] = None,
    compare: Annotated[list[Path] | None, option(RESULTS, COMPARE_HELP, metavar="DIR...")] = None,
    jobs: Annotated[int, option(SPEED, "Songs at once.", metavar="N", min=1)] = 1,
    device: Device = "auto",
    precision: Inner = Precision.auto,
    segment: Segment = None,
    overlap: Overlap = None,
    shifts: Shifts = 1,
    batch: Batch = None,
    wiener: Wiener = None,
    griffin_lim: GriffinLim = None,
    quiet: Quiet = False,
    json_: Annotated[bool, option(TALK, "The summary as JSON on stdout, a line each run.", "--json")] = False,
) -> int:
    """Measure how well songs are separated, [bold]as the papers do[/bold]: BSS Eval v4, medians over songs.

    Each song's scores are written as museval writes them. A song that was scored is not scored again.
    """
    source = choose(estimates, model, oracle, baseline, dataset)
    folders = beside(compare or [], ctx.args)
    if source is None and not folders:
        raise UsageError("nothing to score: choose one of --estimates, --model, --oracle and --baseline")
    if keep_stems and estimates:
        raise UsageError("--keep-stems: the stems of --estimates are there already; leave it out")
    if html and html.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html {html}: a report's name ends in .html")
    first, last = part(start, end)
    merging = read_merges(merge or [])

    from separate.cli.scores import present
    from separate.evaluation.results import load, save_summary

    runs = {folder: load(folder) for folder in folders}
    failed = False
    if source:
        from separate.datasets import find_tracks

        songs = pick(find_tracks(dataset or "", layout=layout.value, subset=subset), tracks or [])

        from separate.cli.process import tune
        from separate.evaluation import estimates as systems
        from separate.evaluation.run import Plan

        tune()
        reporter = Reporter(quiet=quiet, json=False, songs=len(songs))
        if estimates:
            system = systems.folder(estimates, songs, first, last)
        elif model:
            system = systems.model(
                model, device=device, precision=precision.value, segment=segment, overlap=overlap, shifts=shifts,
                batch=batch, wiener=wiener, griffin_lim=griffin_lim, say=reporter.notice,
            )  # fmt: skip
        else:
            system = systems.oracle(oracle) if oracle else systems.baseline(baseline or "")
        plan = Plan(out or Path("results", source), metric.value, first, last, merging, jobs, force, keep_stems)
        results = run(songs, system, plan, reporter)
        failed = bool(results.failed)
        if results.tracks:
            save_summary(plan.out, results)
            runs = {plan.out: results, **{path: run for path, run in runs.items() if path != plan.out}}
    present(runs, json_lines=json_, html=html, quiet=quiet)
    return int(failed)


def choose(
    estimates: Path | None, model: str | None, oracle: Oracle | None, baseline: Baseline | None, dataset: Path | None
) -> str | None:
    """Check that one thing is to be scored, on something; return what its results are called. None: nothing is."""
    given = {
        "--estimates": estimates.resolve().name if estimates else None,
        "--model": model_label(model) if model else None,
        "--oracle": oracle,
        "--baseline": baseline,
    }
    chosen = {option: name for option, name in given.items() if name is not None}
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)}: choose one; results are put side by side with --compare")
    if chosen and not dataset:
        raise UsageError(f"{next(iter(chosen))} needs the true stems: --dataset DIR")
    if dataset and not chosen:
        raise UsageError(f"--dataset {dataset}: choose what is scored: --estimates, --model, --oracle or --baseline")
    return next(iter(chosen.values()), None)


def beside(compare: list[Path], more: list[str]) -> list[Path]:
    """Read `--compare A B C`, of which the parser takes A only for the option's."""
    if more and not compare:
        raise UsageError(f"{more[0]!r}: songs come with --dataset, results of earlier runs with --compare")
    return list(dict.fromkeys([*compare, *map(Path, more)]))


def read_merges(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read what is to be summed up; no two sums may have one name, or one of them would be lost."""
    merging: dict[str, tuple[str, ...]] = {}
    for text in texts:
        stem, parts = read_merge(text)
        if stem in merging:
            raise UsageError(f"--merge {text!r}: makes {stem}, as another --merge does; write one sum of all its parts")
        merging[stem] = parts
    return merging


def read_merge(text: str) -> tuple[str, tuple[str, ...]]:
    """Read "bass+other=other"."""
    parts, _, stem = text.partition("=")
    names = tuple(name.strip() for name in parts.split("+"))
    if not stem.strip() or not all(names):
        raise UsageError(f"--merge {text!r}: write it as bass+other=other")
    return stem.strip(), names


def pick(found: list[Track], wanted: list[str]) -> list[Track]:
    """Keep the tracks that are asked for: by number, by pattern, or all."""
    if not wanted:
        return found
    chosen: dict[str, Track] = {}
    for text in wanted:
        if text.isdecimal():
            matching = found[: int(text)]
        else:
            matching = [track for track in found if called(track.name, text) or called(PurePath(track.name).name, text)]
        if not matching:
            names = ", ".join(track.name for track in found[:3])
            raise UsageError(f"--tracks {text!r}: none of {len(found)} tracks is called so; there are {names}, ...")
        chosen |= {track.name: track for track in matching}
    return [track for track in found if track.name in chosen]


def called(name: str, pattern: str) -> bool:
    """Compare a name with a pattern, or with a name that has brackets in it."""
    return name == pattern or fnmatch(name.lower(), pattern.lower())


def run(songs: Sequence[Track], system: System, plan: Plan, reporter: Reporter) -> Results:
    """Score all songs, saying what became of each."""
    from separate.cli.scores import Tally
    from separate.evaluation.results import Results, title
    from separate.evaluation.run import evaluate, made_with

    outcomes: dict[str, Outcome] = {}
    with reporter, closing(evaluate(songs, system, plan)) as stream:
        tally = Tally(reporter, len(songs))
        for outcome in stream:
            outcomes[outcome.track] = outcome
            tally.add(outcome)
        tally.close()
    done = [outcomes[title(song.name)] for song in songs]
    return Results(
        plan.out.name,
        {outcome.track: outcome.scores for outcome in done if not outcome.error},
        made_with(system, plan),
        {outcome.track: outcome.notes for outcome in done},
        {outcome.track: str(outcome.error) for outcome in done if outcome.error},
        shlex.join(["separate", *sys.argv[1:]]),
        versions(),
    )


def versions() -> dict[str, str]:
    """Say what made the results."""
    import torch

    from separate import __version__

    return {"separate": __version__, "torch": torch.__version__, "python": platform.python_version()}
