"""Whether the recipes of the papers learn: some steps as they are, and many on one batch.

    python -m benchmarks.recipes [--recipe d2-gru-paper]... [--steps 3] [--most 128] [--pieces 16] [--again 50]
        [--batch 2]

`--steps` are taken with the recipe's own batch, cut to `--most` mixes, drawn as it says, and computed in so many
pieces, one after the other, where memory is short. Then a fresh net takes `--again` steps on one batch of `--batch`
mixes, and its loss has to fall. The songs are noises with a beat: what is shown is that losses, gradients and sizes are
right, not how well music is separated.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import torch

from benchmarks.training import make_pool
from separate.device import choose_device
from separate.training.config import Recipe, bundled_recipes, read_recipe
from separate.training.pool import Pool, find_songs, open_song
from separate.training.trainer import Trainer


def learn(recipe: Recipe, folder: Path, device: torch.device, steps: int, same: bool) -> tuple[list[float], float]:
    """Take steps, on the same batch or on others; return the losses and the seconds of a step."""
    trainer = Trainer(recipe, device)
    songs = [open_song(*found) for found in find_songs(folder)]
    make = trainer.batches(Pool(songs, trainer.model.sources, trainer.model.sample_rate, device))
    trainer.prepare(make)
    losses, first = [], make(0)
    begun = time.monotonic()
    for step in range(steps):
        losses.append(trainer.learn(first if same else make(step), 0.0))
        print(f"step {step + 1} of {steps}: {losses[-1]:.4g}", file=sys.stderr, flush=True)  # one may take minutes
    return losses, (time.monotonic() - begun) / max(1, steps)


def main() -> None:
    papers = [name for name in bundled_recipes() if "paper" in name]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", choices=papers, help="all of the papers if none is named")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--most", type=int, default=128, help="mixes of a step")
    parser.add_argument("--pieces", type=int, default=0, help="of a batch; a mix each if 0")
    parser.add_argument("--again", type=int, default=50)
    parser.add_argument("--batch", type=int, default=2, help="mixes of the batch that is learnt by heart")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = choose_device(options.device)
    print(f"{'':24}{'batch':>6}{'losses of its steps':>32}{'s':>8}{'MB':>8}   one batch of {options.batch}, s a step")
    with tempfile.TemporaryDirectory() as place:
        make_pool(Path(place), 30)
        for name in options.recipe or papers:
            recipe = read_recipe(name)
            batch = min(recipe.mixing.batch, options.most)
            pieces = dataclasses.replace(recipe.schedule, accumulate=options.pieces or batch)
            mixing = dataclasses.replace(recipe.mixing, batch=batch)
            whole = dataclasses.replace(recipe, schedule=pieces, mixing=mixing)
            losses, seconds = learn(whole, Path(place), device, options.steps, same=False)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
            small = dataclasses.replace(recipe, mixing=dataclasses.replace(recipe.mixing, batch=options.batch))
            heart, each = learn(small, Path(place), device, options.again, same=True)
            said = ", ".join(f"{loss:.4g}" for loss in losses)
            ends = f"{mean(heart[:5]):.4g} -> {mean(heart[-5:]):.4g}  {each:.1f}" if len(heart) > 9 else ""
            print(f"{name:24}{batch:6}{said:>32}{seconds:8.1f}{peak:8.0f}   {ends}", flush=True)


if __name__ == "__main__":
    main()
