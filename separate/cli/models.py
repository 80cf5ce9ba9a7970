"""`separate models`: the models that have names, and what of them is on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from separate.cli.text import one_line
from separate.errors import CheckpointError, SeparateError, UsageError

if TYPE_CHECKING:
    from separate.checkpoints.registry import Checkpoint

__all__ = ["complete_model", "models_app", "use_registry"]

REGISTRY_HELP = "A checkpoints.toml whose models come on top."
FREE_HELP = "All that may be used for anything."
NAMES_HELP = "Names, or hf:user/repo/file@revision."


def complete_model(incomplete: str) -> list[str]:
    """Offer the names of the registry."""
    from separate.checkpoints.registry import registry

    return [name for name in registry() if name.startswith(incomplete)]


def use_registry(path: Path | None) -> Path | None:
    """Add a registry to those that are read, in processes that we start, too."""
    from separate.checkpoints.registry import VARIABLE, registry

    if path is not None:
        os.environ[VARIABLE] = os.fspath(path.absolute())
        registry()  # what is wrong with it is said now
    return path


Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Registry = Annotated[
    Path | None, typer.Option("--registry", metavar="FILE", help=REGISTRY_HELP, callback=use_registry, is_eager=True)
]
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_model, help="A name, file or hf:...")]
Names = Annotated[
    list[str], typer.Argument(metavar="NAME...", autocompletion=complete_model, help=NAMES_HELP, show_default=False)
]
SomeNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME...]", autocompletion=complete_model, help=NAMES_HELP, show_default=False),
]

models_app = typer.Typer(help="List the models that have names, show, fetch, verify or remove them.")


@models_app.callback(invoke_without_command=True)
def models(ctx: typer.Context, json_: Json = False, registry: Registry = None) -> None:
    """List the models that have names, show, fetch, verify or remove them."""
    if not ctx.invoked_subcommand:
        list_models(json_)


@models_app.command("list")
def list_models(json_: Json = False, registry: Registry = None) -> None:
    """List the models that have names: the same as `separate models`."""
    from separate.checkpoints.registry import registry as read

    rows = [facts(row) for row in read().values()]
    if json_:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for row in rows:
        remedy = f"separate models pull {row['name']}" if row["source"].startswith("hf:") else "its file is missing"
        state = "here" if row["here"] else f"not here: {remedy}"
        console.print(Text.assemble((row["name"], "bold"), "  ", (state, "green" if row["here"] else "dim")))
        lines = [row["summary"], in_short(row)]
        if row["mean_sdr"] is not None:
            lines.append(f"SDR {row['mean_sdr']:.1f} dB on average ({row['measured']})")
        for line in lines:
            console.print(Text(line), soft_wrap=not console.is_terminal, style="" if line is lines[0] else "dim")
        console.print()
    console.print(Text("`separate models show NAME` tells all that is known of one."), style="dim")


@models_app.command("show")
def show_model(name: Name, json_: Json = False, registry: Registry = None) -> None:
    """Show all that is known of one model: a name, a checkpoint file, or a place on the hub."""
    from separate.checkpoints.registry import registry as read
    from separate.checkpoints.resolve import licence_of, resolve, where
    from separate.checkpoints.weights import read_header

    row = read().get(name)
    known = facts(row) if row else {"name": name}
    path = where(name)
    if path is not None:
        header = read_header(resolve(name, quiet=True))
        known |= {"architecture": header.architecture, "stems": list(header.sources)}
        known |= {"sample_rate": header.sample_rate, "licence": licence_of(name, header.licence)}
        known |= {"file": str(path), "megabytes": megabytes(name)}
        known |= {"config": header.config, "training": header.training}
    elif row is None:
        raise CheckpointError(f"{name}: not here; fetch it by `separate models pull {name}`")
    if json_:
        print(json.dumps(known, indent=2))
        return
    for key, value in known.items():
        if value in (None, "", {}):  # not known
            continue
        if isinstance(value, dict):
            print(one_line(f"{key}:"))
            for inner, fact in value.items():
                print(one_line(f"    {inner}: {fact}"))
        else:
            print(one_line(f"{key}: {', '.join(value) if isinstance(value, list) else value}"))
    if path is None and row and row.path:
        print(f"Not here: {row.path} is missing.")
    elif path is None:
        print(f"Not here yet: its header tells more after `separate models pull {name}`.")


@models_app.command("pull")
def pull_models(
    names: SomeNames = None,
    all_free: Annotated[bool, typer.Option("--all-free", help=FREE_HELP)] = False,
    quiet: Quiet = False,
    json_: Json = False,
    registry: Registry = None,
) -> int:
    """Fetch models, or newer versions of them, so that they work without a network."""
    from separate.checkpoints.registry import registry as read
    from separate.checkpoints.resolve import resolve

    chosen = list(names or [])
    if all_free:
        chosen += [row.name for row in read().values() if row.free and row.name not in chosen]
    if not chosen:
        raise UsageError("name the models to fetch, or say --all-free; `separate models` lists them")

    def pull(name: str) -> dict[str, Any]:
        path = resolve(name, quiet=quiet, update=True)
        return {"status": "here", "file": str(path), "megabytes": megabytes(name)}

    return each(chosen, pull, json_, quiet)


@models_app.command("verify")
def verify_models(names: SomeNames = None, json_: Json = False, registry: Registry = None) -> int:
    """Compare models, or all that are here, with what was noted when they came."""
    from separate.checkpoints import hub
    from separate.checkpoints.registry import registry as read
    from separate.checkpoints.resolve import intact, pieces, place_of, where
    from separate.checkpoints.weights import read_header

    def verify(name: str) -> dict[str, Any]:
        path = where(name)
        place = place_of(name)
        if path is None:
            remedy = f"`separate models pull {name}`" if place else "correct its `source` in the registry"
            raise CheckpointError(f"{name}: not here, or not all of it; {remedy}")
        wrong = [piece.name for piece in pieces(place) if not hub.intact(place.repo, piece)] if place else []
        if wrong:
            raise CheckpointError(f"{name}: damaged: {', '.join(wrong)}; `separate models pull {name}` mends it")
        read_header(intact(name, path))
        return {"status": "intact", "file": str(path), "megabytes": megabytes(name)}

    return each(names or [name for name in read() if where(name)], verify, json_)


@models_app.command("remove")
def remove_models(names: Names, json_: Json = False, registry: Registry = None) -> int:
    """Remove models from the cache of the hub, all versions or the one that is said, and unfinished transfers."""
    from separate.checkpoints import hub
    from separate.checkpoints.resolve import pieces, place_of

    def remove(name: str) -> dict[str, Any]:
        place = place_of(name)
        if place is None:
            raise CheckpointError(f"{name}: not in the cache of the hub, so not ours to remove")
        versions = [place.revision] if place.revision else hub.commits(place.repo)
        found = [piece for version in versions for piece in pieces(replace(place, revision=version)) if piece.is_file()]
        free = hub.remove(place.repo, found)
        status = "removed" if found or free else "was not here"
        return {"status": status, "megabytes": round(free / 1e6, 2)}

    return each(names, remove, json_)


def each(names: list[str], do: Callable[[str], dict[str, Any]], json_: bool, quiet: bool = False) -> int:
    """Do something with each model, say what became of it, and return the exit code: one failing stops no other."""
    results, code = [], 0
    for name in names:
        try:
            result = {"name": name, **do(name), "error": None}
        except KeyboardInterrupt:
            print("\nseparate: interrupted; what has come so far is kept", file=sys.stderr, flush=True)
            raise typer.Exit(130) from None
        except SeparateError as error:
            result, code = {"name": name, "status": "failed", "error": str(error)}, error.exit_code
            print(f"separate: {one_line(str(error))}", file=sys.stderr, flush=True)
        results.append(result)
        if not (json_ or quiet or result["error"]):
            print(one_line(", ".join(words(result))), flush=True)
    if json_:
        print(json.dumps(results, indent=2))
    return code


def words(result: dict[str, Any]) -> Iterator[str]:
    """Tell in words what became of a model."""
    yield f"{result['name']}: {result['status']}"
    if result["megabytes"]:
        yield f"{result['megabytes']:g} MB"
    if "file" in result:
        yield result["file"]


def facts(row: Checkpoint) -> dict[str, Any]:
    """Turn a row into plain data."""
    from separate.checkpoints.resolve import where

    known = {name: value for name, value in asdict(row).items() if name != "folder"} | {"stems": list(row.stems)}
    return known | {"mean_sdr": row.mean_sdr, "free": row.free, "here": where(row.name) is not None}


def in_short(row: dict[str, Any]) -> str:
    """Say what a model is, in a line."""
    kind, _, rest = row["source"].partition(":")
    place = {"bundled": "comes with the package", "file": rest, "hf": row["source"]}[kind]
    size = [f"{row['megabytes']:g} MB"] if row["megabytes"] else []
    rate = f"{row['sample_rate'] / 1000:g} kHz"
    return " · ".join([", ".join(row["stems"]), rate, *size, row["licence"], row["architecture"], place])


def megabytes(name: str) -> float:
    """Measure the files of a model."""
    from separate.checkpoints.resolve import pieces, place_of, where

    place = place_of(name)
    files = pieces(place) if place else [where(name)]
    return round(sum(file.stat().st_size for file in files if file) / 1e6, 2)
