"""Train a D2-GRU by masks over bands: `python -m separate.training.loop RECIPE POOL RUN`.

POOL is a folder of stems (see pool.py), RUN one for what comes out: `state.pt`, from which the same command goes on
where it stopped, `model.safetensors`, the averaged weights so far, and `log.csv`.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from separate.checkpoints.weights import load, save
from separate.errors import SeparateError, UsageError
from separate.models import build
from separate.models.d2gru import D2GRU
from separate.training.config import Recipe, Schedule, read_recipe
from separate.training.losses import disagreement, mask_loss
from separate.training.mixing import Batch, Mixer, prefetched
from separate.training.pool import Pool

__all__ = ["Trainer", "main", "train"]


class Trainer:
    """Weights in float32, their running average, and the net that computes with a copy in lower precision."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        torch.manual_seed(recipe.schedule.seed)
        self.model: D2GRU = build(recipe.architecture, recipe.model)
        if self.model.bands is None or self.model.config.output != "mask":
            raise UsageError('this loop trains masks over bands: the model needs bands and output = "mask"')
        precision = getattr(torch, recipe.schedule.precision)
        self.nets: list[D2GRU] = [
            build(recipe.architecture, recipe.model).to(precision) for _ in range(recipe.schedule.workers)
        ]
        self.pool = ThreadPoolExecutor(len(self.nets), initializer=torch.set_num_threads, initargs=(1,))
        self.average: D2GRU = build(recipe.architecture, recipe.model)
        self.average.load_state_dict(self.model.state_dict())
        # Muon, which moves a matrix in all its directions alike, learns more a step; the rest is for Adam.
        matrices = [p for p in self.model.parameters() if p.ndim == 2]
        others = [p for p in self.model.parameters() if p.ndim != 2]
        self.muon = torch.optim.Muon(matrices, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.Adam(others, betas=(0.9, 0.99), fused=True)
        self.weight = self.model.bands.weight[:, : self.model.bins].sum(1).sqrt()  # √(bins of a band)
        self.step, self.seconds, self.heard = 0, 0.0, 0.0  # steps, seconds of training, seconds of audio

    def start_from(self, path: str) -> None:
        """Begin with the weights of the checkpoint at `path` instead of random ones.

        If its net heard less than this one does, what is new counts nothing at first.
        """
        weights = load(path).state_dict()
        new, old = self.model.input.conv.weight.shape[1], weights["input.conv.weight"].shape[1]
        weights["input.conv.weight"] = nn.functional.pad(weights["input.conv.weight"], (0, 0, 0, new - old))
        self.model.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Start where the data are: standardise what the net hears, and let it guess every source's mean share."""
        some = list(batches)
        heard = torch.log1p(torch.cat([batch.mixture for batch in some], 1)).flatten(0, 1)  # (frame · item, band)
        targets = torch.cat([batch.targets for batch in some], 1).mean((0, 1))  # (source, band)
        share = targets / targets.sum(0).clamp(min=1e-8)
        mean, std = heard.mean(0), heard.std(0).clamp(min=0.1)
        first, last = self.model.input.conv, self.model.output.conv
        with torch.no_grad():
            first.weight /= std[:, None]
            first.bias -= torch.einsum("oik,i->o", first.weight, mean)  # type: ignore[operator]
            last.bias.copy_(torch.logit(share, 0.01).flatten())  # type: ignore[union-attr]
        self.average.load_state_dict(self.model.state_dict())

    def mixer(self, pool: Pool) -> Mixer:
        """Mix what this model trains on."""
        model, recipe = self.model, self.recipe
        assert model.bands is not None
        seed = recipe.schedule.seed + self.step
        return Mixer(pool, recipe.mixing, model.sources, model.stft, model.bands, model.config.sides, seed)

    def masks(self, net: D2GRU, mixture: Tensor) -> Tensor:
        """Run the net on band magnitudes: (frame, item, band) -> (frame, item, source, band)."""
        x = net.input(torch.log1p(mixture).to(next(net.parameters()).dtype))
        for block in net.blocks:
            x = block(x)
        y: Tensor = net.output.linear(x).float()  # (item, source · band, frame)
        return y.view(len(y), len(net.sources), -1, y.shape[2]).permute(3, 0, 1, 2).sigmoid()

    def loss(self, net: D2GRU, batch: Batch) -> Tensor:
        """Judge the masks of `net` on a batch."""
        pair = net.sources.index("bass"), net.sources.index("other")
        masks, schedule = self.masks(net, batch.mixture), self.recipe.schedule
        loss = mask_loss(masks, batch.targets, self.weight, batch.merged, pair)
        if schedule.agreement and self.step % schedule.agree_every == 0:
            return loss + schedule.agreement * self.disagreement(net, batch, masks)
        return loss

    def disagreement(self, net: D2GRU, batch: Batch, masks: Tensor) -> Tensor:
        """Compare what `net` says of one half of the mixes, with surroundings, to what it said of the whole.

        A net that forgets within these surroundings separates chunks as it does whole songs.
        """
        middle, around = len(batch.mixture) // 2, self.recipe.schedule.surroundings
        energy = (batch.mixture[..., : len(self.weight)] * self.weight) ** 2
        if self.step // self.recipe.schedule.agree_every % 2:
            part = self.masks(net, batch.mixture[: middle + around])
            return disagreement(masks[:middle], part[:middle], energy[:middle])
        part = self.masks(net, batch.mixture[middle - around :])
        return disagreement(masks[middle:], part[around:], energy[middle:])

    def gradients(self, net: D2GRU, batch: Batch) -> float:
        """Leave the gradients of a share of the batch in `net`; return its loss."""
        with torch.no_grad():
            for its, mine in zip(net.parameters(), self.model.parameters(), strict=True):
                its.copy_(mine)
        net.zero_grad()
        loss = self.loss(net, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def learn(self, batch: Batch, progress: float) -> float:
        """Take one step at `progress` (0 to 1) through the schedule; return the loss.

        Every worker computes a share of the batch on one thread: kernels that never wait for each other stay fast
        on a machine that does other things too, where kernels split over threads do not.
        """
        schedule, workers = self.recipe.schedule, len(self.nets)
        losses = list(self.pool.map(self.gradients, self.nets, batch.split(workers)))
        for mine, *shares in zip(self.model.parameters(), *(net.parameters() for net in self.nets), strict=True):
            mine.grad = torch.stack([share.grad.float() for share in shares if share.grad is not None]).mean(0)
        nn.utils.clip_grad_norm_(self.model.parameters(), schedule.clip)
        rate = learning_rate(schedule, progress)
        for optimiser, factor in ((self.muon, 2.0), (self.adam, 1.0)):
            optimiser.param_groups[0]["lr"] = factor * rate
            optimiser.step()  # type: ignore[no-untyped-call]
        self.step += 1
        keep = min(schedule.ema, self.step / (self.step + 10))  # young averages forget faster
        with torch.no_grad():
            for mean, mine in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(mine, 1 - keep)
        return sum(losses) / workers

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "progress": (self.step, self.seconds, self.heard),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        was, now = state["recipe"]["model"], self.recipe.model
        if differs := sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key)):
            raise UsageError(f"the saved run's model differs in {', '.join(differs)}: give the run another folder")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.step, self.seconds, self.heard = state["progress"]

    def save(self, run: Path) -> None:
        """Write the state and the averaged weights to `run`, each complete or not at all."""
        part = run / ".state.part"
        torch.save(self.state(), part)
        os.replace(part, run / "state.pt")
        facts = {"minutes": round(self.seconds / 60, 1), "hours_heard": round(self.heard / 3600, 1), "steps": self.step}
        save(
            run / "model.safetensors",
            self.average,
            architecture=self.recipe.architecture,
            licence="MIT",
            training=facts,
            dtype=torch.float16,
        )


def learning_rate(schedule: Schedule, progress: float) -> float:
    """Rise in a line, then fall on half a cosine to zero."""
    if progress < schedule.warmup:
        return schedule.rate * max(0.01, progress / schedule.warmup)
    x = min(1.0, (progress - schedule.warmup) / (1 - schedule.warmup))
    return schedule.rate * 0.5 * (1 + math.cos(math.pi * x))


def train(trainer: Trainer, batches: Iterable[Batch], run: Path) -> None:
    """Learn from `batches` until the schedule's minutes are over; save now and then, and at the end."""
    schedule = trainer.recipe.schedule
    end, saved = schedule.minutes * 60, trainer.seconds
    per_batch = trainer.recipe.mixing.batch * trainer.recipe.mixing.frames * trainer.model.config.hop / 44100
    losses: list[float] = []
    waited = 0.0
    with (run / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        before = mark = time.monotonic()
        try:
            for batch in batches:
                waited += time.monotonic() - before
                losses.append(trainer.learn(batch, trainer.seconds / end))
                now = time.monotonic()
                trainer.seconds += now - before
                trainer.heard += per_batch
                before = now
                if trainer.step % 20 == 0:
                    speed = per_batch * len(losses) / (now - mark)
                    row = [trainer.step, trainer.seconds / 60, sum(losses) / len(losses), speed, waited / (now - mark)]
                    log.writerow([f"{value:.5g}" for value in row])
                    file.flush()
                    print("step {} · {} min · loss {} · {} × real time · waiting {}".format(*(f"{v:.4g}" for v in row)))
                    losses, waited, mark = [], 0.0, now
                if trainer.seconds - saved > schedule.save * 60:
                    trainer.save(run)
                    saved = trainer.seconds
                if trainer.seconds >= end:
                    break
        finally:
            trainer.save(run)


def main(arguments: list[str]) -> int:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m separate.training.loop", description=main.__doc__)
    parser.add_argument("recipe")
    parser.add_argument("pool", help="a folder of stems: see pool.py")
    parser.add_argument("run", type=Path, help="a folder for the state, the weights and the log")
    parser.add_argument("--start", metavar="CHECKPOINT", help="begin with these weights")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        trainer = Trainer(read_recipe(options.recipe))
        options.run.mkdir(parents=True, exist_ok=True)
        state = options.run / "state.pt"
        if state.exists():
            trainer.restore(torch.load(state, weights_only=True))
        elif options.start:
            trainer.start_from(options.start)
        with closing(prefetched(trainer.mixer(Pool(options.pool)))) as batches:
            if trainer.step == 0 and not options.start:
                trainer.prepare(islice(batches, 6))
            train(trainer, batches, options.run)
    except SeparateError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
