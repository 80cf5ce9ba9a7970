"""`separate INPUT...`: songs in, stems out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from separate.cli.options import MANY, TALK, Options, option, part, with_options
from separate.errors import OutputError, UsageError

if TYPE_CHECKING:
    from separate.batch.job import Job, Output, Progress
    from separate.batch.journal import Made, Records
    from separate.batch.mixdown import Mixdown
    from separate.batch.preflight import Needs
    from separate.batch.run import Doer
    from separate.cli.progress import Reporter

__all__ = ["check", "doer", "how_made", "mixdown_of", "output_of", "run_command", "warn", "work"]

INPUT_HELP = "Songs, folders, quoted patterns such as 'music/**/*.mp3', or - for stdin."
LIST_HELP = "Inputs from a file, one a line; - is stdin. Can be repeated."
LARGE = 2**27  # bytes of a checkpoint
DRY_HELP = "Check songs, disk and names, show what would be done, and stop."


def show_version(value: bool) -> None:
    """Print the version and leave."""
    if value:
        from separate import __version__

        print(f"separate {__version__}")
        raise typer.Exit


@with_options
def run_command(
    options: Options,
    inputs: Annotated[list[str] | None, typer.Argument(metavar="INPUT...", help=INPUT_HELP, show_default=False)] = None,
    list_: Annotated[list[str] | None, option(MANY, LIST_HELP, "--list", metavar="FILE")] = None,
    dry_run: Annotated[bool, option(MANY, DRY_HELP, "--dry-run")] = False,
    version: Annotated[bool, option(TALK, "Print it.", "--version", is_eager=True, callback=show_version)] = False,
) -> int:
    """Separate songs into [bold]vocals, drums, bass and the rest[/bold], each in a file of its own.

    Stems are as long as the song, with its rate, channels, bit depth and tags; with most models they sum to it.
    """
    check(options)
    # What needs no torch is checked before torch is imported.
    from separate.audio.url import location
    from separate.batch.plan import plan

    mixdown = mixdown_of(options)
    names = all_inputs(inputs or [], list_ or [])
    stdout = check_stdout(names, mixdown.names, options, dry_run) if options.out == "-" else None
    if options.cluster and not dry_run:
        from separate.cli.cluster import separate_library

        return separate_library(names, mixdown.names, options, output_of(options, mixdown, None))
    jobs = plan(
        names, location(options.out), options.template, model=options.model, stems=mixdown.names, ext=options.kind
    )
    output = output_of(options, mixdown, stdout)
    if "-" in names and len(options.devices) > 1:
        raise UsageError("- is a song that one process reads: leave --jobs and several devices out")
    if stdout and len(jobs) > 1:
        raise UsageError("--out - writes one stem of one song, and there are more: choose one")

    from separate.cli.process import beside, interruptible
    from separate.cli.progress import Reporter

    reporter = Reporter(quiet=options.quiet, json=options.json, songs=len(jobs))
    with interruptible() as interrupted:
        if dry_run:
            return show_plan(jobs, options, output, reporter)
        # To hash a large checkpoint takes as long as to import torch: one beside the other.
        made: Callable[[], Made] = partial(how_made, options)
        made = beside(made) if is_large(options.model) else made
        do = doer(options, output, reporter, interrupted)
        return work(jobs, do, made, options, output, reporter)


def work(
    jobs: Sequence[Job], do: Doer, made: Callable[[], Made], options: Options, output: Output, reporter: Reporter
) -> int:
    """Look at all songs, separate them, and sum up; return the exit code."""
    from separate.audio.url import location
    from separate.batch.existing import Known, sweep
    from separate.batch.journal import Journal, journal_folder
    from separate.batch.preflight import preflight
    from separate.batch.run import run
    from separate.cli.player import with_pages

    out = location(options.out)
    folder = journal_folder(out, options.journal)
    with Journal(folder, made(), out) if not output.stdout else nullcontext() as journal, reporter:
        if journal:
            sweep(journal.records, out)
            known = Known(out, journal.records, journal.made, options.existing, options.resume)
            jobs = known.settle_all(jobs)
            jobs, needs = preflight(jobs, output, out, at_once=len(options.devices), checked=reporter.checked)
            warn(journal.records, reporter)
            announce(needs, reporter)
        reporter.begin(jobs)
        try:
            with closing(run(jobs, do, journal)) as results:
                for result in with_pages(results, options, output):
                    reporter.result(result)
        except KeyboardInterrupt:
            if len(jobs) > 1:
                reporter.notice(f"{reporter.tally.number} of {len(jobs)} songs are through; go on with: {resuming()}")
            raise
        reporter.summary()
    return int(reporter.failed)


def warn(records: Records, reporter: Reporter) -> None:
    """Say how much of the journal is lost."""
    if records.damaged:
        reporter.notice(f"{records.damaged} lines of the journal cannot be read: what they tell of is not known")


def announce(needs: Needs, reporter: Reporter) -> None:
    """Say what is ahead, if that is more than a song, and what may go wrong."""
    from separate.batch.preflight import gigabytes
    from separate.cli.text import clock

    if needs.songs > 1:
        free = f", {gigabytes(needs.free)} are free" if needs.free is not None else ""
        length = clock(needs.seconds) + (f" and {needs.unknown} of unknown length" if needs.unknown else "")
        about = "" if needs.exact else "about "
        reporter.notice(f"{needs.songs} songs, {length}; the stems need {about}{gigabytes(needs.room)}{free}")
    if needs.short:
        reporter.notice("the stems may not fit on the disk; songs that do not fit fail, --resume does them later")


def show_plan(jobs: Sequence[Job], options: Options, output: Output, reporter: Reporter) -> int:
    """Print what would be done with every song, on stdout; return the exit code of songs that cannot be done."""
    import json

    from separate.audio.url import location
    from separate.batch.existing import Known
    from separate.batch.journal import journal_folder, read_records
    from separate.batch.preflight import preflight
    from separate.cli.text import clock, one_line

    out = location(options.out)
    records = read_records(journal_folder(out, options.journal), out)
    known = Known(out, records, how_made(options), options.existing, options.resume)
    with reporter:
        settled, needs = preflight(
            known.settle_all(jobs), output, out, at_once=len(options.devices), checked=reporter.checked
        )
    for job in settled:
        status = "failed" if job.error else "skipped" if job.skip else "planned"
        if options.json:
            outputs = {stem: str(path) for stem, path in job.outputs.items()}
            error = str(job.error) if job.error else None
            facts = {"error": error, "audio_seconds": job.seconds, "why": job.why}
            print(json.dumps({"song": job.song, "status": status, "outputs": outputs, **facts}))
        else:
            length = clock(job.seconds) if job.seconds is not None else "-"
            why = f"again ({job.why})" if job.why else ""
            print(one_line(f"{status:8} {length:>8}  {job.error or job.song} {why}".rstrip()))
    warn(records, reporter)
    announce(needs, reporter)
    if needs.songs:
        foretell(needs, options, reporter)
    return int(any(job.error for job in settled))


def foretell(needs: Needs, options: Options, reporter: Reporter) -> None:
    """Say how much time and memory it will take."""
    from separate.batch.preflight import gigabytes
    from separate.batch.trial import try_out
    from separate.cli.process import tune
    from separate.cli.text import clock
    from separate.separator import Separator

    tune()
    trial = try_out(Separator(**settings_of(options), device=options.devices[0], say=reporter.notice))
    reporter.notice(f"about {trial.speed:.1f} x real time with one process: {clock(needs.seconds / trial.speed)}")
    if trial.memory and trial.free:
        processes = options.devices.count(options.devices[0])
        memory = f"{gigabytes(processes * trial.memory)} of memory, {gigabytes(trial.free)} are free"
        advice = "; that is too little: try fewer --jobs" if processes * trial.memory > trial.free else ""
        reporter.notice(f"{processes} process{'es' if processes > 1 else ''}: about {memory}{advice}")


def resuming() -> str:
    """Write the command that goes on with this one."""
    given = [word for word in sys.argv[1:] if word not in ("--resume", "--skip-existing")]
    return shlex.join(["separate", "--resume", *given])  # before a "--"


def doer(options: Options, output: Output, reporter: Reporter, interrupted: Callable[[], None]) -> Doer:
    """Get those ready who separate: this process, or several."""
    from separate.audio.url import location
    from separate.cli.process import importing, settle, tune

    if options.cluster:
        from separate.cli.cluster import cluster_doer

        return cluster_doer(options, output, reporter.once)
    settings = settings_of(options)

    def progress(job: Job, tidy: Callable[[int], None] = lambda done: None) -> Progress:
        show = reporter.song(job)

        def shown(done: int, total: int | None) -> None:
            interrupted()
            tidy(done)
            show(done, total)

        return shown

    devices = options.devices
    if len(devices) > 1:
        from separate.batch import workers

        crew = workers.Crew(devices, settings, output, location(options.out), settle)
        return partial(workers.run, crew=crew, notice=reporter.once, progress=progress)
    tidy = tune()

    with importing():
        from separate.batch import local
        from separate.separator import Separator

    separator = Separator(**settings, device=devices[0], say=reporter.notice)
    shown = partial(progress, tidy=tidy)
    return partial(local.run, separator=separator, output=output, notice=reporter.notice, progress=shown)


def settings_of(options: Options) -> dict[str, Any]:
    """Collect what a Separator is made with, but for its device."""
    return {
        "model": options.model, "precision": options.precision.value, "segment": options.segment,
        "overlap": options.overlap, "shifts": options.shifts, "batch": options.batch, "wiener": options.wiener,
        "griffin_lim": options.griffin_lim,
    }  # fmt: skip


def is_large(model: str) -> bool:
    """Tell whether a checkpoint is large; if it is gone by now, whoever needs it will say so."""
    from separate.checkpoints.resolve import resolve

    try:
        return resolve(model, quiet=True).stat().st_size >= LARGE
    except OSError:
        return False


def how_made(options: Options) -> Made:
    """Say what decides the stems' bytes besides the song, as the journal keeps it."""
    import json

    from separate.checkpoints.resolve import resolve
    from separate.checkpoints.weights import fingerprint

    made: Made = json.loads(
        json.dumps({"checkpoint": fingerprint(resolve(options.model)), "options": options.deciding})
    )
    return made


def output_of(options: Options, mixdown: Mixdown, stdout: BinaryIO | None) -> Output:
    """Say how stems are written."""
    from separate.batch.job import Output

    start, end = part(options.start, options.end)
    return Output(
        format=options.kind, bits=options.bits and options.bits.value, rate=options.rate,
        clip=options.clip.value, start=start, end=end, stdout=stdout, mixdown=mixdown,
    )  # fmt: skip


def all_inputs(inputs: list[str], lists: list[str]) -> list[str]:
    """Put inputs and those of lists together."""
    from separate.batch.inputs import read_list

    if not inputs and not lists:
        raise UsageError("nothing to separate: name songs or folders, or a list of them with --list")
    if [*inputs, *lists].count("-") > 1:
        raise UsageError("- and --list - both want standard input: choose one")
    names = [*inputs, *(name for file in lists for name in read_list(file))]
    if not names:
        raise UsageError(f"--list {' '.join(lists)}: names no input")
    return names


def check(options: Options) -> None:
    """Refuse options that do not go together, whatever the model and the songs."""
    from separate.audio.formats import choose_format
    from separate.audio.url import is_url

    part(options.start, options.end)
    if options.skip_existing and (options.force or options.resume):
        other = "--force overwrites" if options.force else "--resume does again"
        raise UsageError(f"--skip-existing leaves what is there, {other} some of it: choose one")
    if options.journal is not None and is_url(options.journal):
        raise UsageError(f"--journal {options.journal}: nothing can be appended to at a URL; choose a folder")
    if options.cluster is not None:
        from separate.cli.cluster import check_cluster

        check_cluster(options)
    if options.jobs and options.jobs < options.device.count(",") + 1:
        raise UsageError(f"--jobs {options.jobs}: fewer than the devices of --device {options.device}")
    if (options.player or options.report) and (options.out == "-" or options.stem_mp4):
        raise UsageError("--player and --report look at stems in files of their own: leave --out - and --stem-mp4 out")
    if (options.player or options.report) and is_url(options.out):
        raise UsageError(f"--player and --report look at stems on this machine, not at {options.out}: leave them out")
    bits = options.bits.value if options.bits else None
    kind = choose_format(options.kind, bits, 16, False)
    if options.clip == "none" and kind.bounded and (bits or kind.lossy):
        raise UsageError(f"--clip none: {kind} ends at full scale; add --format wav --bits float")


def check_stdout(inputs: list[str], stems: Sequence[str], options: Options, dry_run: bool) -> BinaryIO:
    """Refuse what standard output cannot take, and return it."""
    if options.format != "wav":
        raise UsageError(f"--out - writes WAV, not {options.format}: leave --format out")
    if options.json or dry_run:
        raise UsageError(
            f"{'--json' if options.json else '--dry-run'} and --out - both want standard output: choose one"
        )
    if options.resume or len(options.devices) > 1:
        raise UsageError("--out - writes one song: leave --resume and --jobs out")
    if len(stems) > 1 or len(inputs) > 1 or Path(inputs[0]).is_dir():
        raise UsageError("--out - writes one stem of one song: choose it with --stems")
    if sys.__stdout__ is None:
        raise OutputError("--out -: standard output is closed")
    return sys.stdout.buffer


def mixdown_of(options: Options) -> Mixdown:
    """Find out which files are written of a song."""
    from separate.checkpoints.resolve import resolve
    from separate.checkpoints.weights import read_header
    from separate.cli.outputs import choose_mixdown

    return choose_mixdown(options, read_header(resolve(options.model, quiet=options.quiet)).sources)
