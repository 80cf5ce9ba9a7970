"""A run from beginning to end: ranks, pool, trainer, loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from separate.audio.fileset import lock
from separate.device import choose_device
from separate.errors import InputError, OutputError, UsageError
from separate.training.config import Data, Recipe
from separate.training.filling import fill, held_out
from separate.training.loop import train
from separate.training.pool import Pool, Song
from separate.training.trainer import Trainer

__all__ = ["run_recipe"]

Say = Callable[[str], None]

SAME = "the songs to validate with are those to learn from: how well it does with others is not known"
PATIENCE = timedelta(days=7)  # in which one rank decodes or validates while the others wait

_STATE = ("recipe", "model", "average", "optimisers", "progress", "folders")  # what `Trainer.save` writes
# Of where the songs are, what is said if it is not as the run began; older states hold the first only.
_PLACES = {
    "folders": "the data are not those",
    "valid": "the songs to validate with are not those",
    "pool": "the pool is not the one",
}


def run_recipe(
    recipe: Recipe,
    data: Sequence[Path],
    run: Path,
    *,
    valid: Path | None = None,
    pool: Path | None = None,
    start: Path | None = None,
    device: str = "auto",
    say: Say = print,
) -> bool:
    """Train as `recipe` says, from where the run in its folder stopped; return False if Ctrl-C came before the end.

    Args:
        recipe: model, objective, mixing and schedule.
        data: what to learn from: data sets, folders of stems, corpora or pools. A run that goes on knows this and the
            next two.
        run: the folder for weights and logs.
        valid: what to validate with, instead of a part of the data.
        pool: the folder for what is decoded; in that of the run if there is none.
        start: a checkpoint to begin with.
        device: as in `Separator`. Under torchrun every process has a card of its own.
        say: is told what users may want to know.
    """
    with ranks(device) as (rank, place), ExitStack() as stack:
        if rank:
            say = _silent
        state = _state(run)
        trainer = Trainer(recipe, place)
        if state:
            try:
                trainer.restore(state)
                data = data or [Path(folder) for folder in state["folders"]]
                valid = valid or (Path(state["valid"]) if state.get("valid") else None)
                pool = pool or (Path(state["pool"]) if state.get("pool") else None)
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                raise damaged(run / "state.pt") from error
        elif start:
            trainer.start_from(str(start))
        sources, rate = trainer.model.sources, trainer.model.sample_rate
        with first(rank, place):
            if rank == 0:
                stack.enter_context(alone(run))
            learning, held = _songs(data, valid, pool or run / "pool", recipe.data, rate, say)
        songs, held_songs = Pool(learning, sources, rate, place), Pool(held, sources, rate, place)
        hours = round(songs.seconds / 3600, 2)
        say(f"songs: {len(learning)} to learn from, {hours} h; {len(held)} to validate with")
        trainer.places = {
            "folders": [str(folder.resolve()) for folder in data],
            "valid": str(valid.resolve()) if valid else None,
            "pool": str(pool.resolve()) if pool else None,
        }
        for name, now in trainer.places.items():
            if state and state.get(name, now) != now:
                say(f"{_PLACES[name]} that the run began with")
        facts = {"data": [folder.name for folder in data], "songs": len(learning), "hours": hours}
        if trainer.copies:
            torch.set_num_threads(1)
        return train(trainer, songs, held_songs, run, facts, say, fresh=not (state or start))


@contextmanager
def first(rank: int, place: torch.device) -> Iterator[None]:
    """Let the first rank go ahead, to decode what is missing; if it fails, the others leave, for it says why."""
    if not dist.is_initialized():
        yield
        return
    passed = torch.zeros(1, device=place)
    if rank:
        dist.broadcast(passed, 0)
        if not passed:
            raise SystemExit(1)
        yield
        return
    try:
        yield
    except Exception:
        dist.broadcast(passed, 0)
        raise
    dist.broadcast(passed + 1, 0)


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Make a run's folder, and keep other runs out of it; the system lets go if this one is killed."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / ".lock").open("ab")
    except OSError as error:
        raise OutputError(f"{run}: cannot be made: {error.strerror}") from error
    with file:
        if not lock(file):
            raise OutputError(f"{run}: another run writes here: wait until it is through, or choose another --out")
        yield


def _songs(
    data: Sequence[Path], valid: Path | None, pool: Path, settings: Data, rate: int, say: Say
) -> tuple[list[Song], list[Song]]:
    """Find the songs to learn from and to validate with."""
    songs = fill(pool, data, settings, rate, say)
    held = fill(pool, [valid], replace(settings, copies=0, synthetic=0), rate, say) if valid else []
    if held:
        # A pool that was made by a run with the same --valid has those songs too.
        both = {(song.name, song.length) for song in held}
        seen = {song.name for song in songs if (song.name, song.length) in both}
        learning = [song for song in songs if song.name not in seen]
        if seen:
            say(f"songs of --valid that are not learnt from: {len(seen)}" if learning else SAME)
        return learning or songs, held
    learning, held = held_out(songs, settings.held)
    if not learning or not held:
        missing = "validate with" if learning else "learn from"
        raise UsageError(f"[data] held = {settings.held} leaves no song to {missing}; change it, or use --valid")
    return learning, held


def _state(run: Path) -> dict[str, Any] | None:
    path = run / "state.pt"
    if not path.exists():
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        # What is no state has none of these.
        return {key: found[key] for key in _STATE} | {key: found[key] for key in _PLACES if key in found}
    except Exception as error:  # torch's own, and others'
        raise damaged(path) from error


def damaged(path: Path) -> InputError:
    """Say that a run cannot go on."""
    return InputError(f"{path}: is no run's state, or a damaged one; begin anew with another folder")


@contextmanager
def ranks(device: str) -> Iterator[tuple[int, torch.device]]:
    """Join the other processes that torchrun started, if it did: which of them this is, and where it computes."""
    if "LOCAL_RANK" not in os.environ:
        yield 0, choose_device(device)
        return
    place = choose_device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield dist.get_rank(), place
    finally:
        dist.destroy_process_group()


def _silent(message: str) -> None:
    pass
