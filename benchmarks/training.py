"""How fast the compact recipe learns, and whether mixing keeps up.

    python -m benchmarks.training [--device cuda]

One row for each way to compute a step: two copies of the net on a thread each, as the recipe does on a processor, and
the net itself on all threads. `mixing` and `learning` are milliseconds a batch, each on its own; `together` is the loop
with its thread that mixes ahead, in times real time, and `waiting` the share of it spent waiting for that thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

import numpy as np
import torch

from separate.device import choose_device
from separate.training.config import Recipe, read_recipe
from separate.training.mixing import prefetched
from separate.training.pool import Pool, add_song, find_songs, open_song
from separate.training.trainer import Trainer

WAYS = {
    "the net, float32": {"workers": 0, "precision": "float32"},
    "the net, bfloat16": {"workers": 0, "precision": "bfloat16"},
    "2 copies, bfloat16": {"workers": 2, "precision": "bfloat16"},
}


def make_pool(folder: Path, seconds: float) -> None:
    rng = np.random.default_rng(0)
    for song in range(4):
        stems = ("vocals", "drums", "bass", "other")
        noise = {s: torch.from_numpy(rng.standard_normal((2, int(44100 * seconds)))).float() for s in stems}
        add_song(folder / "songs" / str(song), noise)


def measure(recipe: Recipe, pool: Pool, steps: int) -> tuple[float, float, float, float]:
    """Return milliseconds of mixing and of learning, times real time, and the share of waiting."""
    trainer = Trainer(recipe, pool.device)
    make = trainer.batches(pool)
    mixing, learning = [], []
    for step in range(steps):
        begun = time.perf_counter()
        batch = make(step)
        mixed = time.perf_counter()
        trainer.learn(batch, 0.5)
        mixing.append(mixed - begun)
        learning.append(time.perf_counter() - mixed)
    waited = 0.0
    with closing(prefetched(make, 0)) as batches:
        next(batches)
        begun = time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            trainer.learn(batch, 0.5)
        took = time.perf_counter() - begun
    speed = steps * recipe.mixing.batch * recipe.mixing.seconds / took
    # Of the turns of a batch only the first one reads and transforms: the mean counts.
    return 1e3 * sum(mixing) / steps, 1e3 * median(learning), speed, waited / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="d2-gru")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    recipe, device = read_recipe(options.recipe), choose_device(options.device)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        make_pool(Path(folder), 20.0)
        pool = Pool(
            [open_song(*song) for song in find_songs(Path(folder))], Trainer(recipe).model.sources, 44100, device
        )
        print(f"{options.recipe} on {device}, {threads} threads; ratio: against the first row")
        print(f"{'':22}{'mixing':>9}{'learning':>10}{'together':>11}{'waiting':>9}{'ratio':>7}")
        first = 0.0
        for name, way in WAYS.items():
            torch.set_num_threads(1 if way["workers"] else threads)
            changed = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, **way))  # type: ignore[arg-type]
            mixing, learning, speed, waiting = measure(changed, pool, options.steps)
            first = first or speed
            row = f"{name:22}{mixing:6.0f} ms{learning:7.0f} ms{speed:8.1f} x{100 * waiting:8.1f}%{speed / first:7.2f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
