"""One step of learning: gradients, optimisers, the running average of the weights, and all of it on disk and back."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor, nn

from separate.checkpoints.weights import load, save
from separate.device import PRECISIONS, worthwhile
from separate.errors import CheckpointError, OutputError, SeparateError, UsageError
from separate.models import build
from separate.models.layers import weight_norm_
from separate.training.config import Recipe, Schedule, differences
from separate.training.mixing import Mixer
from separate.training.muon import Muon
from separate.training.objectives import choose_objective
from separate.training.pool import Pool

__all__ = ["Trainer", "learning_rate"]


class Trainer:
    """A model that learns: its weights, their running average, and the optimisers."""

    def __init__(self, recipe: Recipe, device: torch.device | str = "cpu") -> None:
        self.recipe, self.device = recipe, torch.device(device)
        self.objective = choose_objective(recipe.objective)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if recipe.mixing.batch < self.world:  # which all ranks find, so that none waits for the others
            raise UsageError(
                f"[mixing] batch must be {self.world} or more for {self.world} processes, got {recipe.mixing.batch}"
            )
        torch.manual_seed(recipe.schedule.seed)
        try:
            self.model: Any = build(recipe.architecture, recipe.model)
        except CheckpointError as error:
            raise UsageError(f"[model] {error}") from error
        if recipe.schedule.weight_norm:
            weight_norm_(self.model)
        self.model.to(self.device).train()
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimisers = optimisers(self.model, recipe.schedule.optimiser)
        workers = recipe.schedule.workers if self.device.type == "cpu" else 0
        dropout = getattr(self.model.config, "dropout", 0.0)
        if workers > 1 and dropout:  # threads draw from torch's one generator, in whatever order they come
            raise UsageError(
                f"[schedule] workers = {workers} and [model] dropout = {dropout} do not go together "
                "on a CPU: no run would be like another; set workers to 1 or 0, or dropout to 0"
            )
        self.low = worthwhile(PRECISIONS[recipe.schedule.precision], self.device)
        # An objective that casts what goes into its net can do with weights of low precision; others need autocast.
        kept = self.low if self.objective.casts else torch.float32
        self.copies = [low_precision(self.model, kept) for _ in range(workers)]
        self.threads = ThreadPoolExecutor(workers or 1, initializer=torch.set_num_threads, initargs=(1,))
        # Steps, seconds of training, seconds of audio; the least loss of a validation, and how many came after it.
        self.step, self.seconds, self.heard = 0, 0.0, 0.0
        self.best, self.worse = math.inf, 0
        self.places: dict[str, Any] = {"folders": []}  # where the songs are: a run that goes on is not told again

    def batches(self, pool: Pool) -> Callable[[int], Any]:
        """Make the function step -> batch, of this rank's share."""
        schedule = self.recipe.schedule
        mixer = Mixer(pool, self.recipe.mixing, schedule.seed, self.rank, self.world)
        return self.objective.batches(mixer, self.model)

    def prepare(self, batch: Callable[[int], Any]) -> None:
        """Set the first weights by the data, where the objective knows how; all ranks start with the same ones."""
        torch.manual_seed(self.recipe.schedule.seed)
        if self.objective.prepare:
            self.objective.prepare(self.model, [batch(step) for step in range(6)])
        if self.world > 1:
            for weight in self.model.state_dict().values():
                dist.broadcast(weight, 0)
        self.average.load_state_dict(self.model.state_dict())

    def learn(self, batch: Any, progress: float) -> float:
        """Take one step at `progress` (0 to 1) through the schedule; return the loss."""
        schedule = self.recipe.schedule
        torch.manual_seed(hash((schedule.seed, self.step, self.rank)) % 2**31)  # of dropout and the like
        loss = self.gradients(batch)
        if self.world > 1:
            loss = self.share_gradients(loss)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), schedule.clip or math.inf)
        if not math.isfinite(norm):
            raise SeparateError(
                f"step {self.step + 1}: loss {loss:.4g}, gradient {norm:.4g}; what was saved last is kept"
            )
        rate = learning_rate(schedule, progress, self.heard / 3600)
        for optimiser, factor in self.optimisers:
            optimiser.param_groups[0]["lr"] = factor * rate
            optimiser.step()
        self.step += 1
        self.heard += self.recipe.mixing.batch * self.recipe.mixing.seconds
        keep = min(schedule.ema, self.step / (self.step + 10))  # young averages forget faster
        with torch.no_grad():
            for mean, mine in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(mine, 1 - keep)
            for mean, mine in zip(self.average.buffers(), self.model.buffers(), strict=True):
                mean.copy_(mine)
        return loss

    def gradients(self, batch: Any) -> float:
        """Leave the gradients of a batch in the model; return its loss."""
        if self.copies:
            return self.gradients_of_copies(batch)
        schedule = self.recipe.schedule
        self.model.zero_grad()
        total = 0.0
        for piece in batch.split(schedule.accumulate):
            with torch.autocast(self.device.type, self.low, enabled=self.low != torch.float32):
                loss: Tensor = self.objective.loss(self.model, piece) * (piece.items / batch.items)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total

    def gradients_of_copies(self, batch: Any) -> float:
        """Compute a share of the batch in every copy of the net, each on one thread.

        Kernels that never wait for each other stay fast on a machine that does other things too, where kernels split
        over threads do not.
        """
        autocast = self.low != torch.float32 and not self.objective.casts

        def work(net: nn.Module, share: Any) -> float:
            with torch.no_grad():
                for its, mine in zip(tensors_of(net), tensors_of(self.model), strict=True):
                    its.copy_(mine)
            net.zero_grad()
            total = 0.0
            for piece in share.split(self.recipe.schedule.accumulate):
                with torch.autocast(self.device.type, self.low, enabled=autocast):
                    loss: Tensor = self.objective.loss(net, piece) * (piece.items / batch.items)
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.item()
            return total

        shares = batch.split(len(self.copies))
        losses = list(self.threads.map(work, self.copies, shares))
        used = self.copies[: len(losses)]
        for mine, *theirs in zip(self.model.parameters(), *(net.parameters() for net in used), strict=True):
            grads = [weight.grad.float() for weight in theirs if weight.grad is not None]
            mine.grad = torch.stack(grads).sum(0) if grads else None
        for mine, *theirs in zip(self.model.buffers(), *(net.buffers() for net in used), strict=True):
            if mine.is_floating_point() and not all(torch.equal(mine, its) for its in theirs):  # what norms have heard
                mine.copy_(sum(its * (share.items / batch.items) for its, share in zip(theirs, shares, strict=True)))
            else:
                mine.copy_(theirs[0])
        return sum(losses)

    def share_gradients(self, loss: float) -> float:
        """Average gradients and loss over all mixes of all ranks, in one message."""
        grads = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads] + [torch.tensor([loss], device=self.device)])
        batch = self.recipe.mixing.batch
        flat *= len(range(self.rank, batch, self.world)) / batch
        dist.all_reduce(flat)
        at = 0
        for grad in grads:
            grad.copy_(flat[at : at + grad.numel()].view_as(grad))
            at += grad.numel()
        return float(flat[-1])

    def start_from(self, path: str) -> None:
        """Begin with the weights of the checkpoint at `path` instead of random ones.

        If its net heard less than this one does, or had fewer blocks, what is new counts nothing at first.
        """
        found, wanted = load(path).state_dict(), self.model.state_dict()
        if self.recipe.schedule.weight_norm:
            raise UsageError("--start and weight_norm = true do not go together: checkpoints hold plain weights")
        for name, weight in found.items():
            new = wanted.get(name, weight).shape
            if weight.ndim > 1 and new[:1] == weight.shape[:1] and new[1] > weight.shape[1]:
                missing = weight.new_zeros(len(weight), new[1] - weight.shape[1], *weight.shape[2:])
                found[name] = torch.cat([weight, missing], 1)
        if hasattr(self.model, "deepened"):
            found = self.model.deepened(found)
        try:
            self.model.load_state_dict({name: weight.to(self.device) for name, weight in found.items()})
        except RuntimeError as error:
            raise UsageError(f"{path}: is of another model than the recipe's; train without --start") from error
        self.average.load_state_dict(self.model.state_dict())

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser, _ in self.optimisers],
            "progress": (self.step, self.seconds, self.heard, self.best, self.worse),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        if different := differences(state["recipe"], asdict(self.recipe)):
            raise UsageError(f"the run began with another recipe: {'; '.join(different)}; give it another --out")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for (optimiser, _), saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.seconds, self.heard, self.best, self.worse = state["progress"]

    def save(self, run: Path, facts: dict[str, Any]) -> None:
        """Write the state and the averaged weights to `run`, each complete or not at all."""
        part = run / ".state.part"
        try:
            torch.save(self.state() | self.places, part)
            os.replace(part, run / "state.pt")
        except (OSError, RuntimeError) as error:  # torch turns what the system says into the latter
            part.unlink(missing_ok=True)
            raise OutputError(f"{run / 'state.pt'}: cannot be saved; is the disk full? The last one is kept") from error
        self.save_weights(run / "last.safetensors", facts)

    def save_weights(self, path: Path, facts: dict[str, Any]) -> None:
        """Write the averaged weights as a checkpoint."""
        heard = {"minutes": round(self.seconds / 60, 1), "hours_heard": round(self.heard / 3600, 2), "steps": self.step}
        recipe = self.recipe
        try:
            save(path, self.average, architecture=recipe.architecture, licence=recipe.licence, training=facts | heard,
                 dtype=torch.float16 if recipe.half else None)  # fmt: skip
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{path}: cannot be saved; is the disk full? The last one is kept") from error


def optimisers(model: nn.Module, name: str) -> list[tuple[torch.optim.Optimizer, float]]:
    """Make the optimisers, and the factors of their learning rates."""
    weights = list(model.parameters())
    if name == "adam":
        return [(torch.optim.Adam(weights, fused=True), 1.0)]
    # Muon, which moves a matrix in all its directions alike, learns more a step; the rest is for Adam.
    matrices, rest = [w for w in weights if w.ndim == 2], [w for w in weights if w.ndim != 2]
    found: list[tuple[torch.optim.Optimizer, float]] = [(Muon(matrices), 2.0)] if matrices else []
    return [*found, (torch.optim.Adam(rest, betas=(0.9, 0.99), fused=True), 1.0)] if rest else found


def tensors_of(model: nn.Module) -> Iterator[Tensor]:
    """List all that a model learns or counts."""
    yield from model.parameters()
    yield from model.buffers()


def low_precision(model: Any, dtype: torch.dtype) -> Any:
    """Copy a model with its weights, but not its tables, in lower precision."""
    net = copy.deepcopy(model)
    for weight in net.parameters():
        weight.data = weight.data.to(dtype)
    return net


def learning_rate(schedule: Schedule, progress: float, hours: float = 0.0) -> float:
    """Rise in a line, stay or fall on half a cosine to zero, and fall by a factor after so many hours heard."""
    rate = schedule.rate * schedule.decay ** int(hours / schedule.decay_hours)
    if progress < schedule.warmup:
        return rate * max(0.01, progress / schedule.warmup)
    x = min(1.0, (progress - schedule.warmup) / (1 - schedule.warmup)) if schedule.cosine else 0.0
    return rate * 0.5 * (1 + math.cos(math.pi * x))
