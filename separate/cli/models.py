"""`separate models`: the models that have names."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from separate.checkpoints.registry import Checkpoint

__all__ = ["models_app"]

models_app = typer.Typer(help="List the models that have names, or show one.", invoke_without_command=True)

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@models_app.callback()
def list_models(ctx: typer.Context, json_: Json = False) -> None:
    """List the models that have names."""
    if ctx.invoked_subcommand:
        return
    from separate.checkpoints.registry import registry

    rows = registry().values()
    if json_:
        print(json.dumps([facts(row) for row in rows], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "stems", "rate", "licence", "here", "what for", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(row.name, ", ".join(row.stems), f"{row.sample_rate} Hz", row.licence, here(row), row.summary)
    Console().print(table)


@models_app.command("show")
def show_model(name: Annotated[str, typer.Argument(metavar="NAME")], json_: Json = False) -> None:
    """Show all that is known of one model: a name, or a checkpoint file."""
    from separate.checkpoints.registry import find, registry
    from separate.checkpoints.resolve import resolve
    from separate.checkpoints.weights import read_header

    row = find(name) if name in registry() or not name.endswith(".safetensors") else None
    path = resolve(name)
    header = read_header(path)
    known = facts(row) if row else {"name": name}
    known |= {"architecture": header.architecture, "stems": header.sources, "sample_rate": header.sample_rate}
    known |= {"licence": header.licence, "megabytes": round(path.stat().st_size / 1e6, 2)}
    known |= {"config": header.config, "training": header.training}
    if json_:
        print(json.dumps(known, indent=2))
        return
    for key, value in known.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for inner, fact in value.items():
                print(f"    {inner}: {fact}")
        else:
            print(f"{key}: {', '.join(value) if isinstance(value, tuple) else value}")


def facts(row: Checkpoint) -> dict[str, Any]:
    """Turn a row into plain data."""
    return asdict(row) | {"here": here(row) == "yes"}


def here(row: Checkpoint) -> str:
    """Say whether a model can be used without the network."""
    return "yes" if row.path is not None and row.path.is_file() else "no"
