"""The options of commands that separate songs. A new one is a field of `Options`, in the group that the help shows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from separate.cli.models import REGISTRY_HELP, complete_model, use_registry
from separate.errors import UsageError

__all__ = ["Options", "option", "part", "seconds", "with_options"]

# The groups of options in the help.
MODEL, PART, OUTPUT, MANY, SPEED, TALK = (
    "Model",
    "What to write",
    "Where and how to write it",
    "Many songs",
    "Speed and quality",
    "Messages",
)

TEMPLATE = "{model}/{track}/{stem}.{ext}"
KARAOKE_TEMPLATE = "{track} ({stem}).{ext}"
STEM_MP4_TEMPLATE = "{track}.{ext}"
RATES = {"min": 8000, "max": 192000}
MODEL_HELP = "A name (see `separate models`), a .safetensors file, or hf:user/repo/file@revision."
KARAOKE_HELP = "The song without its vocals, in one file: SONG (karaoke)."
GUIDE_HELP = "Keep the vocals this quiet in it: -14dB."
ONLY_HELP = "These stems summed up in one file."
WITHOUT_HELP = "The song without these stems, in one file: no_A_B."
LEVEL_HELP = "Make what is left as loud as the song was."
PLAYER_HELP = "Add a page to listen to them, which needs nothing else: index.html."
REPORT_HELP = "Measure loudness, shares and sum: report.json and spectrograms."
STEM_MP4_HELP = "The song and its stems in one file, for DJ software."
CLIP_HELP = "Louder than full scale: turn all stems of the song down alike, cut peaks, or leave (float)."
RESUME_HELP = "Go on with a batch: do what is missing, or was made otherwise."
SKIP_HELP = "Leave stems that exist, unless the journal knows that they were made otherwise."
JOBS_HELP = "Songs at once, in processes of their own."
CLUSTER_HELP = "Let Ray's machines do it: host:port, ray://host:port, auto (RAY_ADDRESS), or local, this machine."
PER_GPU_HELP = "Songs at once on each GPU of the cluster."
JOURNAL_HELP = "Folder for the journal, if not that of the stems."
RETRIES_HELP = "How often another machine tries a song whose machine was lost."
DEVICE_HELP = "auto, cpu, cuda, cuda:N or mps; cuda:0,1: a process on each."
WIENER_HELP = "Iterations of the Wiener filter; 0: ratio masks."
GRIFFIN_HELP = "Find new phases by so many iterations."


# Options that decide which files are written, who does it and what is said, but not what is in the files.
ELSEWHERE = {"model", "stems", "out", "name", "force", "skip_existing", "resume", "jobs", "device", "batch"}
ELSEWHERE |= {"registry", "quiet", "json", "also", "player", "report", "cluster", "per_gpu", "retries", "journal"}


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
    if not 1 <= len(numbers) <= 3 or not all(0 <= n < 1e9 for n in numbers):
        raise UsageError(f"{text!r} is no time: write seconds (83.5), m:s (1:23.5) or h:m:s")
    return float(sum(n * 60**i for i, n in enumerate(reversed(numbers))))


def part(start: str, end: str | None) -> tuple[float, float | None]:
    """Read --start and --end."""
    first, last = seconds(start), None if end is None else seconds(end)
    if last is not None and last <= first:
        raise UsageError(f"--end {end} must come after --start {start}")
    return first, last


def option(panel: str, help: str, *names: str, **more: Any) -> Any:
    """Describe an option; `panel` is its group in the help."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


# Options that `separate evaluate` has, too.
Device = Annotated[str, option(SPEED, "auto, cpu, cuda, cuda:N or mps.")]
Inner = Annotated[Precision, option(SPEED, "Of the model's inner layers.")]
Segment = Annotated[
    float | None, option(SPEED, "Of what is heard at once.", metavar="SECONDS", show_default="the model's")
]
Overlap = Annotated[
    float | None, option(SPEED, "Of a chunk and the next, 0 to 0.95.", metavar="SHARE", show_default="the model's")
]
Shifts = Annotated[int, option(SPEED, "Average over chunks placed in N ways.", metavar="N")]
Batch = Annotated[int | None, option(SPEED, "Chunks at once.", metavar="N", show_default="by device")]
Wiener = Annotated[int | None, option(SPEED, WIENER_HELP, metavar="N", show_default="the model's")]
GriffinLim = Annotated[int | None, option(SPEED, GRIFFIN_HELP, metavar="N", show_default="the model's")]
Quiet = Annotated[bool, option(TALK, "Say nothing but errors.", "--quiet", "-q")]


@dataclass(frozen=True)
class Options:
    """What the user asked for, as typed; a field is an option of `separate INPUT...` and of `separate watch`."""

    model: Annotated[str, option(MODEL, MODEL_HELP, "--model", "-m", autocompletion=complete_model)] = "d2-gru"
    registry: Annotated[
        Path | None, option(MODEL, REGISTRY_HELP, metavar="FILE", callback=use_registry, is_eager=True)
    ] = None

    stems: Annotated[str | None, option(PART, "Only these: vocals,drums.", metavar="A,B", show_default="all")] = None
    karaoke: Annotated[bool, option(PART, KARAOKE_HELP, "--karaoke")] = False
    guide: Annotated[str | None, option(PART, GUIDE_HELP, metavar="LEVEL", show_default="none")] = None
    also: Annotated[str | None, option(PART, "Stems to write beside it.", metavar="A,B", show_default="none")] = None
    only: Annotated[str | None, option(PART, ONLY_HELP, metavar="A,B")] = None
    without: Annotated[str | None, option(PART, WITHOUT_HELP, metavar="A,B")] = None
    level: Annotated[bool, option(PART, LEVEL_HELP, "--level")] = False
    stem_mp4: Annotated[bool, option(PART, STEM_MP4_HELP, "--stem-mp4")] = False
    start: Annotated[str, option(PART, "Begin here: seconds or m:s.", metavar="TIME")] = "0"
    end: Annotated[str | None, option(PART, "Stop here.", metavar="TIME", show_default="the song's end")] = None

    out: Annotated[
        str, option(OUTPUT, "Folder for the stems, or its URL; - is stdout.", "--out", "-o", metavar="DIR")
    ] = "separated"
    name: Annotated[
        str | None, option(OUTPUT, "Files in it; see also {suffix}.", metavar="TEMPLATE", show_default=TEMPLATE)
    ] = None
    format: Annotated[Format, option(OUTPUT, "Kind of file.")] = Format.wav
    bits: Annotated[Bits | None, option(OUTPUT, "Bit depth.", show_default="at least the input's")] = None
    rate: Annotated[int | None, option(OUTPUT, "Sample rate.", metavar="HZ", show_default="the input's", **RATES)] = (
        None
    )
    clip: Annotated[Clip, option(OUTPUT, CLIP_HELP)] = Clip.rescale
    force: Annotated[bool, option(OUTPUT, "Overwrite stems that exist.", "--force")] = False
    skip_existing: Annotated[bool, option(OUTPUT, SKIP_HELP, "--skip-existing")] = False
    player: Annotated[bool, option(OUTPUT, PLAYER_HELP, "--player")] = False
    report: Annotated[bool, option(OUTPUT, REPORT_HELP, "--report")] = False

    resume: Annotated[bool, option(MANY, RESUME_HELP, "--resume")] = False
    journal: Annotated[str | None, option(MANY, JOURNAL_HELP, metavar="DIR", show_default="see the docs")] = None
    jobs: Annotated[
        int | None, option(MANY, JOBS_HELP, metavar="N", min=1, max=1000, show_default="1, or one a GPU")
    ] = None
    cluster: Annotated[str | None, option(MANY, CLUSTER_HELP, metavar="ADDRESS", show_default="none")] = None
    per_gpu: Annotated[int, option(MANY, PER_GPU_HELP, metavar="N", min=1, max=100)] = 1
    retries: Annotated[int, option(MANY, RETRIES_HELP, metavar="N", min=0)] = 2

    device: Annotated[str, option(SPEED, DEVICE_HELP)] = "auto"
    precision: Inner = Precision.auto
    segment: Segment = None
    overlap: Overlap = None
    shifts: Shifts = 1
    batch: Batch = None
    wiener: Wiener = None
    griffin_lim: GriffinLim = None

    quiet: Quiet = False
    json: Annotated[bool, option(TALK, "One JSON object a song on stdout.", "--json")] = False

    @property
    def deciding(self) -> dict[str, Any]:
        """The options that decide a stem's bytes, but for those that were left as they are."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ELSEWHERE}
        return {name: value for name, value in given.items() if value != getattr(Options, name)}

    @property
    def template(self) -> str:
        """Where files go in the output folder. A version of a song lies in it by its own name."""
        return self.name or (KARAOKE_TEMPLATE if self.karaoke else STEM_MP4_TEMPLATE if self.stem_mp4 else TEMPLATE)

    @property
    def kind(self) -> str:
        """The kind of files, as `choose_format` and file names have it."""
        return "stem.mp4" if self.stem_mp4 else self.format.value

    @property
    def existing(self) -> str:
        """What becomes of files that are there: "refuse", "force" or "skip"."""
        return "force" if self.force else "skip" if self.skip_existing else "refuse"

    @property
    def devices(self) -> list[str]:
        """The device of each process: "cuda:0,1" is "cuda:0" and "cuda:1"."""
        kind = self.device.partition(":")[0]
        names = [name if not name.isdecimal() else f"{kind}:{name}" for name in self.device.split(",")]
        return [names[i % len(names)] for i in range(self.jobs or len(names))]


def with_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command that takes `options: Options` the fields of Options for Typer to see, before its own."""
    hints = get_type_hints(command, include_extras=True)
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
    wanted = {field.name: field.default for field in fields(Options)}
    types = get_type_hints(Options, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY

    def flat(**given: Any) -> int:
        chosen = {name: given.pop(name) for name in wanted}
        return command(**given, options=Options(**chosen))

    # The help shows groups in the order in which their first option comes.
    parameters = [inspect.Parameter(name, keyword, default=wanted[name], annotation=types[name]) for name in wanted]
    parameters += [p.replace(annotation=hints[p.name], kind=keyword) for p in own]
    flat.__doc__ = command.__doc__
    flat.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": int}
    return flat
