"""The loop: batches in, weights out.

A run's folder holds `state.pt`, from which it goes on to the very bit where it stopped; `last.safetensors` and
`best.safetensors`, which are checkpoints; `log.csv` and `validation.csv`.
"""

from __future__ import annotations

import csv
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from separate.errors import OutputError
from separate.training.mixing import prefetched
from separate.training.pool import Pool
from separate.training.trainer import Trainer
from separate.training.validation import Score, validate

__all__ = ["train"]

Say = Callable[[str], None]

EVERY = 10.0  # seconds between two lines of the log


def train(
    trainer: Trainer, pool: Pool, held: Pool, run: Path, facts: dict[str, Any], say: Say = print, *, fresh: bool = True
) -> bool:
    """Learn from `pool` until the schedule is over, validating with `held`; return False if Ctrl-C came first.

    `facts` go into the checkpoints, for people to read. Weights that are not `fresh` are not prepared.
    """
    schedule, leads = trainer.recipe.schedule, trainer.rank == 0
    log = Log(run, trainer, pool) if leads else None
    if leads:
        for name in ("log.csv", "validation.csv"):
            rewind(run / name, trainer.step)
    make = trainer.batches(pool)
    if fresh:
        trainer.prepare(make)
    saved, checked = trainer.seconds, trainer.step if validated(run, trainer.step) else 0
    with interruptible() as interrupted, closing(prefetched(make, trainer.step)) as batches:
        while True:
            progress = agreed(trainer, math.inf if interrupted.is_set() else progress_of(trainer, pool))
            if progress >= 1:
                break
            begun = time.monotonic()
            batch = next(batches)
            waited = time.monotonic() - begun
            loss = trainer.learn(batch, progress)
            trainer.seconds += time.monotonic() - begun
            if log:
                log.step(loss, waited, progress, say)
            if log and due(trainer, schedule.validate):
                log.validation(check(trainer, held, run, facts), say)
                checked = trainer.step
            if leads and trainer.seconds - saved > schedule.save * 60:
                trainer.save(run, facts)
                saved = trainer.seconds
    if log and log.losses:
        log.write(progress, say)
    if leads:
        trainer.save(run, facts)  # whatever becomes of the validation
    if log and checked < trainer.step and not interrupted.is_set():
        score = check(trainer, held, run, facts)
        trainer.save(run, facts)  # with the least loss
        log.validation(score, say)
    return not interrupted.is_set()


def progress_of(trainer: Trainer, pool: Pool) -> float:
    """Say how far a run is, from 0 to 1, by whatever of its limits it is nearest to."""
    schedule = trainer.recipe.schedule
    if schedule.patience and trainer.worse >= schedule.patience:
        return 1.0
    done_by_limit = (
        (trainer.step, schedule.steps),
        (trainer.seconds, schedule.minutes * 60),
        (trainer.heard, schedule.epochs * pool.seconds),
    )
    return max((done / limit for done, limit in done_by_limit if limit), default=0.0)


def agreed(trainer: Trainer, progress: float) -> float:
    """Let the first rank decide: clocks differ, and weights may not."""
    if trainer.world == 1:
        return progress
    decision = torch.tensor([progress], dtype=torch.float64, device=trainer.device)
    dist.broadcast(decision, 0)
    return float(decision)


def due(trainer: Trainer, hours: float) -> bool:
    """Say whether the last step was the one that completed another so many hours of audio heard."""
    if not hours:
        return False
    per_step = trainer.recipe.mixing.batch * trainer.recipe.mixing.seconds / 3600
    heard = trainer.step * per_step
    return int(heard / hours) > int((heard - per_step) / hours)


def check(trainer: Trainer, held: Pool, run: Path, facts: dict[str, Any]) -> Score:
    """Validate the averaged weights, and keep them if they are the best so far."""
    recipe = trainer.recipe
    score = validate(trainer.average, trainer.objective, held, recipe.mixing, recipe.data.clips)
    if score.loss < trainer.best:
        trainer.best, trainer.worse = score.loss, 0
        rounded = {stem: round(value, 2) for stem, value in score.sdr.items()}
        trainer.save_weights(run / "best.safetensors", facts | {"validation": rounded})
    else:
        trainer.worse += 1
    return score


def validated(run: Path, step: int) -> bool:
    """Say whether the last validation of a run that goes on was after this step, by its own table."""
    try:
        table = (run / "validation.csv").read_text("utf-8", errors="replace")
    except OSError:
        return False
    return table.rstrip().rpartition("\n")[2].partition(",")[0] == str(step)


class Log:
    """What a run writes down and says."""

    def __init__(self, run: Path, trainer: Trainer, pool: Pool) -> None:
        self.run, self.trainer, self.pool = run, trainer, pool
        self.losses: list[float] = []
        self.waited, self.began = 0.0, trainer.seconds

    def step(self, loss: float, waited: float, progress: float, say: Say) -> None:
        """Note a step; now and then, write and say what there was."""
        self.losses.append(loss)
        self.waited += waited
        if self.trainer.seconds - self.began > EVERY:
            self.write(progress, say)

    def write(self, progress: float, say: Say) -> None:
        """Write and say what there was since the last time."""
        trainer, took = self.trainer, self.trainer.seconds - self.began
        loss, waiting = sum(self.losses) / len(self.losses), self.waited / took
        speed = trainer.recipe.mixing.batch * trainer.recipe.mixing.seconds * len(self.losses) / took
        minutes = trainer.seconds / 60
        row = {"step": trainer.step, "minutes": minutes, "loss": loss, "times_real_time": speed, "waiting": waiting}
        append(self.run / "log.csv", row)
        left = f", {minutes / progress - minutes:.0f} min left" if 1e-3 < progress < 1 else ""
        say(f"step {trainer.step}: loss {loss:.4g}, {speed:.3g} x real time, waiting {100 * waiting:.1f} %{left}")
        self.losses, self.waited, self.began = [], 0.0, trainer.seconds

    def validation(self, score: Score, say: Say) -> None:
        """Note a validation."""
        trainer = self.trainer
        row = {"step": trainer.step, "minutes": trainer.seconds / 60, "loss": score.loss} | score.sdr
        append(self.run / "validation.csv", row)
        stems = ", ".join(f"{stem} {value:.1f}" for stem, value in score.sdr.items())
        best = " (best)" if trainer.best == score.loss else ""
        say(f"step {trainer.step}: validation loss {score.loss:.4g}{best}; SDR in dB: {stems}")


def append(path: Path, row: dict[str, float]) -> None:
    """Add a row to a CSV file, with the names of its columns if it is the first."""
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            if file.tell() == 0:
                table.writerow(row)
            table.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row.values()])
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def rewind(path: Path, step: int) -> None:
    """Leave out the rows of a CSV file after `step`: a run that was killed goes on from where it last saved."""
    try:
        rows = path.read_bytes().splitlines(keepends=True)
        numbers = [row.partition(b",")[0] for row in rows]
        kept = [row for row, number in zip(rows, numbers, strict=True) if not (number.isdigit() and int(number) > step)]
        if kept != rows:
            part = path.with_name(f".{path.name}.part")
            part.write_bytes(b"".join(kept))
            os.replace(part, path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that a step is finished and saved; the second one interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
