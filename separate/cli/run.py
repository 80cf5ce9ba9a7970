"""`separate INPUT...`: songs in, stems out."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from separate.errors import UnknownStem, UsageError

__all__ = ["run_command"]

# The groups of options in the help.
MODEL, PART, OUTPUT, SPEED, TALK = (
    "Model",
    "What to write",
    "Where and how to write it",
    "Speed and quality",
    "Messages",
)

TEMPLATE = "{model}/{track}/{stem}.{ext}"
RATES = {"min": 8000, "max": 192000}
MODEL_HELP = "A name (see `separate models`), a .safetensors file, or hf:user/repo/file@revision."
CLIP_HELP = "Louder than full scale: turn all stems of the song down alike, cut peaks, or leave (float)."
WIENER_HELP = "Iterations of the Wiener filter; 0: ratio masks."
GRIFFIN_HELP = "Find new phases by so many iterations."


class Format(StrEnum):
    """Kinds of files."""

    wav = "wav"
    flac = "flac"
    ogg = "ogg"
    opus = "opus"
    mp3 = "mp3"
    m4a = "m4a"


class Bits(StrEnum):
    """Bit depths."""

    b16 = "16"
    b24 = "24"
    b32 = "32"
    float = "float"


class Clip(StrEnum):
    """What to do about samples beyond full scale."""

    rescale = "rescale"
    hard = "hard"
    none = "none"


class Precision(StrEnum):
    """Precisions of a model's inner layers."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def seconds(text: str) -> float:
    """Read a time: seconds, m:s or h:m:s."""
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or not all(0 <= n < float("inf") for n in numbers):
        raise UsageError(f"{text!r} is no time: write seconds (83.5), m:s (1:23.5) or h:m:s")
    return float(sum(n * 60**i for i, n in enumerate(reversed(numbers))))


def part(start: str, end: str | None) -> tuple[float, float | None]:
    """Read --start and --end."""
    first, last = seconds(start), None if end is None else seconds(end)
    if last is not None and last <= first:
        raise UsageError(f"--end {end} must come after --start {start}")
    return first, last


def complete_model(incomplete: str) -> list[str]:
    """Offer the names of the registry."""
    from separate.checkpoints.registry import registry

    return [name for name in registry() if name.startswith(incomplete)]


def show_version(value: bool) -> None:
    """Print the version and leave."""
    if value:
        from separate import __version__

        print(f"separate {__version__}")
        raise typer.Exit


def option(panel: str, help: str, *names: str, **more: Any) -> Any:
    """Describe an option; `panel` is its group in the help."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


# Options that other commands have, too.
Device = Annotated[str, option(SPEED, "auto, cpu, cuda, cuda:N or mps.")]
Inner = Annotated[Precision, option(SPEED, "Of the model's inner layers.")]
Segment = Annotated[float | None, option(SPEED, "Of a chunk.", metavar="SECONDS", show_default="the model's")]
Overlap = Annotated[float, option(SPEED, "Of a chunk and the next, 0 to 0.95.", metavar="SHARE")]
Shifts = Annotated[int, option(SPEED, "Average over chunks placed in N ways.", metavar="N")]
Batch = Annotated[int | None, option(SPEED, "Chunks at once.", metavar="N", show_default="by device")]
Wiener = Annotated[int | None, option(SPEED, WIENER_HELP, metavar="N", show_default="the model's")]
GriffinLim = Annotated[int | None, option(SPEED, GRIFFIN_HELP, metavar="N", show_default="the model's")]
Quiet = Annotated[bool, option(TALK, "Say nothing but errors.", "--quiet", "-q")]


def run_command(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Songs, folders of songs, or - for stdin.")],
    model: Annotated[str, option(MODEL, MODEL_HELP, "--model", "-m", autocompletion=complete_model)] = "d2-gru",
    stems: Annotated[str | None, option(PART, "Only these: vocals,drums.", metavar="A,B", show_default="all")] = None,
    start: Annotated[str, option(PART, "Begin here: seconds or m:s.", metavar="TIME")] = "0",
    end: Annotated[str | None, option(PART, "Stop here.", metavar="TIME", show_default="the song's end")] = None,
    out: Annotated[
        str, option(OUTPUT, "Folder for the stems; - is stdout.", "--out", "-o", metavar="DIR")
    ] = "separated",
    name: Annotated[str, option(OUTPUT, "Files in it; see also {suffix}.", metavar="TEMPLATE")] = TEMPLATE,
    format: Annotated[Format, option(OUTPUT, "Kind of file.")] = Format.wav,
    bits: Annotated[Bits | None, option(OUTPUT, "Bit depth.", show_default="at least the input's")] = None,
    rate: Annotated[
        int | None, option(OUTPUT, "Sample rate.", metavar="HZ", show_default="the input's", **RATES)
    ] = None,
    clip: Annotated[Clip, option(OUTPUT, CLIP_HELP)] = Clip.rescale,
    force: Annotated[bool, option(OUTPUT, "Overwrite stems that exist.", "--force")] = False,
    skip_existing: Annotated[bool, option(OUTPUT, "Leave stems that exist.", "--skip-existing")] = False,
    device: Device = "auto",
    precision: Inner = Precision.auto,
    segment: Segment = None,
    overlap: Overlap = 0.1,
    shifts: Shifts = 1,
    batch: Batch = None,
    wiener: Wiener = None,
    griffin_lim: GriffinLim = None,
    quiet: Quiet = False,
    json_: Annotated[bool, option(TALK, "One JSON object a song on stdout.", "--json")] = False,
    version: Annotated[bool, option(TALK, "Print it.", "--version", is_eager=True, callback=show_version)] = False,
) -> int:
    """Separate songs into [bold]vocals, drums, bass and the rest[/bold], each in a file of its own.

    Stems are as long as the song, with its rate, channels, bit depth and tags, and together they sum to it.
    """
    first, last = part(start, end)
    if force and skip_existing:
        raise UsageError("--force overwrites and --skip-existing leaves what is there: choose one")
    depth = bits.value if bits else None
    check_format(format.value, depth, clip.value)

    # What needs no torch is checked before torch is imported.
    from separate.batch.plan import plan
    from separate.checkpoints.resolve import resolve
    from separate.checkpoints.weights import read_header

    wanted = choose_stems(stems, read_header(resolve(model)).sources)
    stdout = check_stdout(inputs, wanted, format.value, json_) if out == "-" else None
    jobs = plan(inputs, Path("." if stdout else out), name, model=model, stems=wanted, ext=format.value)

    from separate.cli.process import tune

    tune()

    from separate.batch.local import Output, run
    from separate.cli.progress import Reporter
    from separate.separator import Separator

    reporter = Reporter(quiet=quiet, json=json_, songs=len(jobs))
    separator = Separator(
        model, device=device, precision=precision.value, segment=segment, overlap=overlap, shifts=shifts, batch=batch,
        wiener=wiener, griffin_lim=griffin_lim, say=reporter.notice,
    )  # fmt: skip
    output = Output(
        format=format.value, bits=depth, rate=rate, clip=clip.value, start=first, end=last, stdout=stdout,
        existing="force" if force else "skip" if skip_existing else "refuse",
    )  # fmt: skip
    with reporter:
        for result in run(jobs, separator, output, notice=reporter.notice, progress=reporter.song):
            reporter.result(result)
    return int(reporter.failed)


def check_format(format: str, bits: str | None, clip: str) -> None:
    """Refuse formats, depths and clipping that do not go together, whatever the songs."""
    from separate.audio.formats import choose_format

    kind = choose_format(format, bits, 16, False)
    if clip == "none" and kind.bounded and (bits or kind.lossy):
        raise UsageError(f"--clip none: {kind} ends at full scale; add --format wav --bits float")


def check_stdout(inputs: list[str], stems: list[str], format: str, json: bool) -> BinaryIO:
    """Refuse what standard output cannot take, and return it."""
    if format != "wav":
        raise UsageError(f"--out - writes WAV, not {format}: leave --format out")
    if json:
        raise UsageError("--json and --out - both want standard output: choose one")
    if len(stems) > 1 or len(inputs) > 1 or Path(inputs[0]).is_dir():
        raise UsageError("--out - writes one stem of one song: choose it with --stems")
    return sys.stdout.buffer


def choose_stems(wanted: str | None, sources: tuple[str, ...]) -> list[str]:
    """Read a list of stems as in "vocals,drums"; the model's order counts."""
    if wanted is None:
        return list(sources)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in sources:
            raise UnknownStem(f"--stems {name!r}: this model separates {', '.join(sources)}")
    if not names:
        raise UsageError(f"--stems {wanted!r} names no stem: choose from {', '.join(sources)}")
    return [source for source in sources if source in names]
