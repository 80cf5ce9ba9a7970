"""`separate train RECIPE`: songs in, a model out."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from separate.cli.text import one_line
from separate.errors import UsageError

__all__ = ["train_command"]

RECIPE_HELP = "A .toml file, or the name of a recipe that comes along, such as d2-gru."
DATA_HELP = "Songs to learn from: a data set, folders of stems, a corpus with a manifest.csv, a pool. Can be repeated."


def option(help: str, *names: str, metavar: str | None = "DIR", **more: Any) -> Any:
    """Describe an option."""
    return typer.Option(*names, help=help, metavar=metavar, **more)


def complete_recipe(incomplete: str) -> list[str]:
    """Offer the names of the recipes that come along."""
    from separate.training.config import bundled_recipes

    return [name for name in bundled_recipes() if name.startswith(incomplete)]


def train_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help=RECIPE_HELP, autocompletion=complete_recipe)],
    data: Annotated[list[Path] | None, option(DATA_HELP)] = None,
    valid: Annotated[Path | None, option("Songs to validate with.", show_default="some of the data")] = None,
    out: Annotated[Path | None, option("Folder of the run.", "--out", "-o", show_default="runs/RECIPE")] = None,
    pool: Annotated[Path | None, option("Folder for decoded songs.", show_default="RUN/pool")] = None,
    minutes: Annotated[float | None, option("When to stop.", metavar="N", show_default="the recipe's")] = None,
    resume: Annotated[bool, option("Go on where the run stopped.", "--resume", metavar=None)] = False,
    start: Annotated[Path | None, option("Weights to begin with.", metavar="CHECKPOINT")] = None,
    device: Annotated[str, option("auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE")] = "auto",
    seed: Annotated[int | None, option("Of all that is drawn.", metavar="N", show_default="the recipe's")] = None,
) -> int:
    """Train a model on songs whose stems are known.

    The run's folder gets last.safetensors, best.safetensors (by validation) and a log. Ctrl-C saves, --resume goes on.
    """
    from separate.training.config import read_recipe

    plan = read_recipe(recipe)
    changes: dict[str, Any] = {"minutes": minutes, "seed": seed}
    changes = {name: value for name, value in changes.items() if value is not None}
    if not all(0 <= value < 2**32 for value in changes.values()):
        raise UsageError(f"--minutes and --seed must be from 0 to {2**32 - 1}")
    plan = dataclasses.replace(plan, schedule=dataclasses.replace(plan.schedule, **changes))
    run = out or Path("runs", Path(recipe).stem)
    check(run, data or [], valid, resume, start)

    from separate.training.run import run_recipe

    try:
        done = run_recipe(plan, data or [], run, valid=valid, pool=pool, start=start, device=device, say=say)
    except KeyboardInterrupt:
        say("interrupted; what was decoded is kept")
        os._exit(130)  # threads may still be decoding
    if not done:
        # What the run's state does not hold has to be said again.
        given = {"--minutes": minutes, "--seed": seed, "--device": None if device == "auto" else device}
        again = [word for name, value in given.items() if value is not None for word in (name, str(value))]
        words = ["separate", "train", recipe, "--out", str(run), *again, "--resume"]
        say(f"interrupted; go on with: {shlex.join(words)}")
    return 0 if done else 130


def check(run: Path, data: list[Path], valid: Path | None, resume: bool, start: Path | None) -> None:
    """Refuse what cannot be meant, before torch is imported."""
    began = (run / "state.pt").exists()
    if began and not resume:
        raise UsageError(f"{run}: holds a run already; go on with it by --resume, or choose another --out")
    if resume and not began:
        raise UsageError(f"{run}: holds no run to go on with; leave --resume out")
    if resume and start:
        raise UsageError("--resume has weights to go on with: leave --start out")
    if not data and not resume:
        raise UsageError("there is nothing to learn from: name folders of songs with --data")
    for folder in [*data, *([valid] if valid else [])]:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")


def say(message: str) -> None:
    """Tell the user; of the processes that torchrun started, the first speaks for all."""
    if "LOCAL_RANK" in os.environ and os.environ.get("RANK", "0") != "0":
        return
    print(one_line(message), file=sys.stderr, flush=True)
