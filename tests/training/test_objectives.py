from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from separate.dsp.stft import magnitude
from separate.errors import UsageError
from separate.training.config import bundled_recipes, read_recipe
from separate.training.mixing import Waves
from separate.training.objectives import choose_objective, grouped, l1, mse
from separate.training.trainer import Trainer
from tests.training.conftest import open_pool

RATE = 44100
PAIR = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 1, 1]])  # the last two of three sources are known as a sum


def batch(groups: torch.Tensor, limit: float = RATE / 2, seconds: float = 0.1) -> Waves:
    generator = torch.Generator().manual_seed(0)
    stems = 0.1 * torch.randn(2, 3, 2, int(seconds * RATE), generator=generator)
    return Waves(stems.sum(1), stems, groups.expand(2, 3, 3), torch.full((2,), limit), RATE)


@torch.no_grad()
def test_l1_is_the_mean_error() -> None:
    data = batch(torch.eye(3))
    assert float(l1(lambda mix: data.stems, data)) == 0
    assert float(l1(lambda mix: data.stems + 0.25, data)) == pytest.approx(0.25)
    assert float(mse(lambda mix: data.stems - 0.25, data)) == pytest.approx(0.0625)


@torch.no_grad()
def test_sources_known_as_a_sum_count_as_a_sum() -> None:
    data = batch(PAIR)
    moved = data.stems + torch.tensor([0, 0.5, -0.5])[:, None, None]
    assert float(l1(lambda mix: moved, data)) == pytest.approx(0, abs=1e-6)
    assert float(l1(lambda mix: moved, dataclasses.replace(data, groups=torch.eye(3).expand(2, 3, 3)))) > 0.3
    assert grouped(data.stems, data.groups).shape == data.stems.shape


@torch.no_grad()
def test_what_is_above_the_limit_does_not_count() -> None:
    data = batch(torch.eye(3), limit=8000)
    tone = torch.sin(2 * math.pi * torch.arange(4410) / RATE * torch.tensor([[12000.0], [3000.0]]))
    high, low = (float(l1(lambda mix, t=t: data.stems + t, data)) for t in tone)
    assert high < 0.01 * low


# The paper's recipes with nets of a few thousand weights, on mixes of a fraction of a second.
SMALL: dict[str, dict[str, Any]] = {
    "d2-gru": {"n_fft": 512, "hop": 128, "width": 16, "groups": 4},
    "mad": {"n_fft": 512, "window": 257, "hop": 48, "bins": 40, "hidden": 32, "iterations": 2},
    "cws-mdensenet": {"first": 8, "growth": [4, 4, 4], "layers": 2, "last": [4, 1], "dropout": 0.0},
    "cws-unet": {"widths": [8, 16], "dropout": 0.0},
    "demucs": {"channels": 8, "depth": 3},
}


@pytest.mark.parametrize("name", [name for name in bundled_recipes() if "paper" in name and name[-3:] != "20s"])
def test_the_loss_of_every_paper_falls(name: str, pool: Path) -> None:
    recipe = read_recipe(name)
    trainer = Trainer(
        dataclasses.replace(
            recipe,
            model={**recipe.model, **SMALL[recipe.architecture]},
            mixing=dataclasses.replace(recipe.mixing, batch=2, seconds=0.1),
            schedule=dataclasses.replace(recipe.schedule, rate=5e-3),
        )
    )
    make = trainer.batches(open_pool(pool, trainer.model.sources))
    trainer.prepare(make)
    data = make(0)
    losses = [trainer.learn(data, 0.0) for _ in range(25)]
    assert min(losses[-3:]) < 0.9 * losses[0]


@pytest.mark.parametrize("name", ["magnitude-l1", "magnitude-mse"])
@pytest.mark.parametrize(
    ("architecture", "model"),
    [
        ("d2-gru", {**SMALL["d2-gru"], "output": "mask"}),
        ("open-unmix", {"n_fft": 512, "hop": 128, "bins": 200, "hidden": 16}),
    ],
)
def test_models_of_magnitudes_learn_too(architecture: str, model: dict[str, Any], name: str, pool: Path) -> None:
    recipe = dataclasses.replace(
        read_recipe("d2-gru-paper"), architecture=architecture, model=model, objective={"name": name}
    )
    mixing = dataclasses.replace(recipe.mixing, batch=2, seconds=0.1)
    schedule = dataclasses.replace(recipe.schedule, rate=5e-3, weight_norm=False)
    trainer = Trainer(dataclasses.replace(recipe, mixing=mixing, schedule=schedule))
    data = trainer.batches(open_pool(pool, trainer.model.sources))(0)
    losses = [trainer.learn(data, 0.0) for _ in range(25)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", ["mad", "subband-l1", "magnitude-l1"])
def test_objectives_say_which_models_they_are_for(name: str) -> None:
    with pytest.raises(UsageError, match="is for"):
        choose_objective({"name": name}).loss(SimpleNamespace(config=None), batch(torch.eye(3)))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"name": ["l1"]}, r"unknown name \['l1'\]; known are bands, "),
        ({"agree_every": 0}, "agree_every must be from 1 to"),
        ({"dropout": 1.0}, "dropout must be from 0 to 0.9, got 1.0"),
        ({"surroundings": 2.5}, "surroundings must be a whole number, got 2.5"),
        ({"agreement": math.nan}, "agreement must be from 0 to 1000000000, got nan"),
        ({"agreement": "much"}, "agreement must be a number, got 'much'"),
        ({"sdr": -1}, "sdr must be from 0"),
        ({"shares": 0}, "shares and sdr are both 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        choose_objective({"name": "bands"} | settings)
    choose_objective({"name": "bands", "shares": 0, "sdr": 1})


def test_mad_hears_whole_frames_only(pool: Path) -> None:
    recipe = read_recipe("mad-paper")
    mixing = dataclasses.replace(recipe.mixing, batch=1, seconds=0.3)
    trainer = Trainer(dataclasses.replace(recipe, model=SMALL["mad"], mixing=mixing))
    model, heard = trainer.model, list[torch.Tensor]()
    data = trainer.batches(open_pool(pool, model.sources))(0)
    answer = model.magnitudes

    def listening(x: torch.Tensor) -> Any:
        heard.append(x)
        return answer(x)

    model.magnitudes = listening
    trainer.objective.loss(model, data)
    noisy = torch.nn.functional.pad(data.mixture.mean(1), (100 * 48, 100 * 48), value=7.0)  # 100 frames, either side
    frames = magnitude(model.stft(noisy))[0].T  # (frame, bin)
    sequence = heard[0][:, 0]  # (frame, bin)
    begin = next(i for i in range(100, 120) if torch.allclose(frames[i], sequence[0], atol=1e-4))
    assert torch.allclose(frames[begin : begin + 60], sequence, atol=1e-4)
    assert not torch.allclose(
        frames[begin - 1], magnitude(model.stft(data.mixture.mean(1)))[0, :, begin - 101], atol=1e-2
    )


def test_mad_needs_a_whole_sequence(pool: Path) -> None:
    recipe = read_recipe("mad-paper")
    short = dataclasses.replace(recipe.mixing, batch=1, seconds=0.4)
    trainer = Trainer(dataclasses.replace(recipe, model=SMALL["mad"] | {"hop": 60, "window": 241}, mixing=short))
    data = trainer.batches(open_pool(pool, trainer.model.sources))(0)
    brief = dataclasses.replace(data, mixture=data.mixture[..., :3000], stems=data.stems[..., :3000])
    with pytest.raises(UsageError, match="must give 60 whole frames of 60 samples"):
        trainer.learn(brief, 0)
