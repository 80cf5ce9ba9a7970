"""The options that say what is written of a song -> a Mixdown."""

from __future__ import annotations

import re

from separate.batch.mixdown import Mixdown, Sum
from separate.cli.options import Options
from separate.errors import UnknownStem, UsageError
from separate.models import MIXTURE

__all__ = ["choose_mixdown"]


def choose_mixdown(options: Options, sources: tuple[str, ...]) -> Mixdown:
    """Find out what the user wants of what the model separates; refuse what contradicts itself."""
    check(options)
    if options.stem_mp4:
        return stem_mp4(sources)
    if options.karaoke:
        return karaoke(options, sources)
    if options.only is not None or options.without is not None:
        return apart(options, sources)
    names = sources if options.stems is None else stems_in(options.stems, "--stems", sources)
    return Mixdown(names)


def check(options: Options) -> None:
    """Refuse options that do not go together."""
    given = {
        "--stems": options.stems is not None,
        "--karaoke": options.karaoke,
        "--only": options.only is not None,
        "--without": options.without is not None,
        "--stem-mp4": options.stem_mp4,
    }
    chosen = [name for name, there in given.items() if there]
    if len(chosen) > 1 and chosen != ["--only", "--without"]:
        raise UsageError(f"{' and '.join(chosen)} each say what is written: choose one")
    for name, value in (("--guide", options.guide), ("--also", options.also)):
        if value is not None and not options.karaoke:
            raise UsageError(f"{name} {value} belongs to --karaoke: add it")
    if options.level and not (options.karaoke or options.without is not None):
        raise UsageError("--level is for what is left of a song: add --karaoke or --without")
    if options.level and options.out == "-":
        raise UsageError("--level is known at the song's end only, and --out - cannot wait for it: choose one")
    if options.stem_mp4 and options.out == "-":
        raise UsageError("--stem-mp4 cannot be written to standard output: choose a folder with --out")
    if options.stem_mp4 and options.format != "wav":
        raise UsageError(f"--stem-mp4 is a format of its own: leave --format {options.format} out")


def karaoke(options: Options, sources: tuple[str, ...]) -> Mixdown:
    """Take the voice out, or most of it."""
    if "vocals" not in sources:
        raise UnknownStem(f"--karaoke: this model has no vocals to take out, it separates {', '.join(sources)}")
    guide = 0.0 if options.guide is None else level_in(options.guide)
    also = stems_in(options.also, "--also", sources) if options.also is not None else ()
    return Mixdown(
        ("karaoke", *also),
        {"karaoke": ({MIXTURE: 1.0, "vocals": guide - 1},)},
        in_title=True,
        level=options.level,
    )


def apart(options: Options, sources: tuple[str, ...]) -> Mixdown:
    """Write some stems as one file, the song without some as another."""
    sums: dict[str, tuple[Sum, ...]] = {}
    if options.only is not None:
        stems = stems_in(options.only, "--only", sources)
        sums["_".join(stems)] = (dict.fromkeys(stems, 1.0),)
    if options.without is not None:
        stems = stems_in(options.without, "--without", sources)
        sums["no_" + "_".join(stems)] = ({MIXTURE: 1.0} | dict.fromkeys(stems, -1.0),)
    return Mixdown(tuple(sums), sums, level=options.level)


def stem_mp4(sources: tuple[str, ...]) -> Mixdown:
    """Write all into one file."""
    from separate.audio.stem_mp4 import STREAMS

    if set(sources) != set(STREAMS[1:]):
        raise UsageError(
            f"--stem-mp4 holds {', '.join(STREAMS[1:])}; this model separates {', '.join(sources)}: choose another"
        )
    return Mixdown(("stems",), {"stems": tuple({name: 1.0} for name in STREAMS)})


def stems_in(text: str, option: str, sources: tuple[str, ...]) -> tuple[str, ...]:
    """Read a list of stems as in "vocals,drums"; the model's order counts."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in sources:
            raise UnknownStem(f"{option} {name!r}: this model separates {', '.join(sources)}")
    if not names:
        raise UsageError(f"{option} {text!r} names no stem: choose from {', '.join(sources)}")
    return tuple(source for source in sources if source in names)


def level_in(text: str) -> float:
    """Read a level below the original's, as in "-14dB", and return it as a factor."""
    found = re.fullmatch(r"\s*(-\d+(?:\.\d+)?)\s*(?:db)?\s*", text, re.IGNORECASE)
    if not found or float(found[1]) == 0:
        raise UsageError(f"--guide {text!r} is no level below the original's: write it in dB, as in -14dB")
    return float(10 ** (float(found[1]) / 20))
