"""A bag of models: each says all stems, and every stem is a weighted mean of what they say.

    stem[s] = Σₘ w[m, s] modelₘ(mix)[s] / Σₘ w[m, s]

With weights of one and zero, each model has its stem: that is how `htdemucs_ft` has four fine-tuned ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.models import MODELS, build
from separate.models.settings import check_chunk, check_least

__all__ = ["PRESETS", "Bag", "BagConfig"]


@dataclass(frozen=True)
class BagConfig:
    """Two Hybrid Demucs, unless told otherwise.

    A model is a table: its `architecture`; its `config`, besides what the bag says for all, which is the stems, the
    sample rate, and seconds of a chunk and its context; and its `weights`, one a stem (without them: all one).
    """

    sources: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    sample_rate: int = 44100
    segment: float = 44.0  # seconds of a chunk
    context: float = 0.0  # of which so many at either end are only surroundings
    models: tuple[dict[str, Any], ...] = ({"architecture": "hdemucs"}, {"architecture": "hdemucs"})

    def __post_init__(self) -> None:
        if not self.sources or not self.models:
            raise ValueError("sources and models must be at least one each")
        check_least(self, {"sample_rate": 1})
        check_chunk(self.segment, self.context)
        for i, model in enumerate(self.models):
            if unknown := sorted(set(model) - {"architecture", "config", "weights"}):
                raise ValueError(f"models[{i}] has no setting {unknown[0]!r}: it knows architecture, config, weights")
            architecture = model.get("architecture")
            if not isinstance(architecture, str) or architecture not in MODELS or architecture == "bag":
                raise ValueError(f"models[{i}]: architecture = {architecture!r} is none that a bag can hold")
            if not isinstance(model.get("config", {}), dict):
                raise ValueError(f"models[{i}]: config = {model['config']!r} is no table of settings")
            weights = model.get("weights", [1.0])
            numbers = isinstance(weights, list | tuple) and all(isinstance(w, int | float) and w >= 0 for w in weights)
            if not numbers or len(self.weights(i)) != len(self.sources):
                raise ValueError(f"models[{i}]: weights = {weights!r} are not one number for each of the stems")
        for source, *column in zip(self.sources, *map(self.weights, range(len(self.models))), strict=True):
            if not 0 < sum(column) < float("inf"):
                raise ValueError(f"models give {source} weights of {column}: at least one must say it")

    def weights(self, index: int) -> list[float]:
        """Look up how much a model counts, for each stem."""
        return list(self.models[index].get("weights", [1.0] * len(self.sources)))


def _each(architecture: str, count: int) -> tuple[dict[str, Any], ...]:
    """Make models of which each says one stem alone."""
    rows = torch.eye(count).tolist()
    return tuple({"architecture": architecture, "weights": row} for row in rows)


# Published bags. What their models are, other files of the same bags may say otherwise: each tells its own settings.
PRESETS: dict[str, dict[str, Any]] = {
    "htdemucs_ft": {"segment": 7.8, "models": _each("htdemucs", 4)},
    "mdx": {
        "models": (
            {"architecture": "wdemucs", "weights": [1.0, 1.0, 0.0, 0.0]},
            {"architecture": "wdemucs", "weights": [0.0, 1.0, 0.0, 0.0]},
            {"architecture": "hdemucs", "weights": [1.0, 0.0, 1.0, 1.0]},
            {"architecture": "hdemucs", "weights": [1.0, 0.0, 1.0, 1.0]},
        )
    },
    "mdx_extra": {"models": ({"architecture": "hdemucs"},) * 4},
}


class Bag(nn.Module):
    """All models, one after the other."""

    shares: Tensor

    def __init__(self, config: BagConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        common = {"sources": config.sources, "sample_rate": config.sample_rate, "context": config.context}
        self.models = nn.ModuleList(
            build(model["architecture"], {"segment": config.segment} | model.get("config", {}) | common)
            for model in config.models
        )
        self.sums = False
        weights = torch.tensor([config.weights(i) for i in range(len(self.models))])
        self.register_buffer("shares", weights / weights.sum(0), persistent=False)  # (model, source)
        reaches: list[Any] = [model.around for model in self.models if hasattr(model, "around")]
        grids: list[Any] = [getattr(model, "grid", 8192) for model in self.models]
        self.around: int | None = max(reaches, default=None)
        self.grid: int = 1 if reaches else max(grids)
        self.overlap: float = max(getattr(model, "overlap", 0.1) for model in self.models)

    def forward(self, mix: Tensor, around: int = 0) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time).

        `around` samples at either end are surroundings, of which every model gets as many as it likes.
        """
        stems = mix.new_zeros(len(mix), len(self.sources), mix.shape[1], mix.shape[2] - 2 * around)
        for model, share in zip(self.models, self.shares, strict=True):
            own: Any = min(around, getattr(model, "around", 0))
            heard = F.pad(mix, (own - around, own - around))
            stems += share[:, None, None] * model(heard, *([own] if own else []))
        return stems
