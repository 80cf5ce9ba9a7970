from __future__ import annotations

import dataclasses
import math
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from separate.checkpoints.weights import load, read_header
from separate.errors import UsageError
from separate.training.config import Mixing, Recipe, Schedule, read_recipe
from separate.training.loop import Trainer, learning_rate, main, train
from separate.training.mixing import Batch, Mixer
from separate.training.pool import Pool, add_song

TINY = Recipe(
    model={
        "n_fft": 512,
        "hop": 128,
        "bands": 32,
        "bins": 200,
        "width": 32,
        "groups": 4,
        "merge": "concat",
        "output": "mask",
    },
    mixing=Mixing(batch=4, frames=32, turns=1, together=1, gain=0, equaliser=0, absent=0, varispeed=0),
    schedule=Schedule(minutes=10, rate=5e-3, precision="float32", ema=0.9),
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sources in four registers: easy to tell apart, once one has learnt where they live."""
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    f = np.fft.rfftfreq(44100 * 2, 1 / 44100)
    stems = {}
    for source, (low, high) in {
        "bass": (0, 300),
        "drums": (300, 1500),
        "vocals": (1500, 5000),
        "other": (5000, 16000),
    }.items():
        spectrum = np.fft.rfft(rng.standard_normal((2, 44100 * 2))) * ((f > low) & (f < high))
        stems[source] = torch.from_numpy(np.fft.irfft(spectrum).astype(np.float32))
        stems[source] *= 0.1 / stems[source].square().mean().sqrt()
    add_song(folder / "synth" / "0", stems)
    return folder


def batches(trainer: Trainer, pool: Path, count: int) -> list[Batch]:
    model = trainer.model
    assert model.bands is not None
    return list(
        islice(Mixer(Pool(pool), TINY.mixing, model.sources, model.stft, model.bands, model.config.sides, 0), count)
    )


def test_it_learns_to_separate(pool: Path) -> None:
    trainer = Trainer(TINY)
    data = batches(trainer, pool, 20)
    trainer.prepare(data[:4])
    losses = [trainer.learn(batch, 0.3) for _ in range(3) for batch in data]
    assert losses[-1] < 0.5 * losses[0]
    # And what it learnt holds in the time domain, through the model's own forward.
    stems = {s: np.load(pool / "synth/0" / f"{s}.npy").astype(np.float32) for s in trainer.model.sources}
    truth = torch.stack([torch.from_numpy(stems[s]) for s in trainer.model.sources])
    with torch.no_grad():
        estimate = trainer.average.eval()(truth.sum(0)[None])[0]
    sdr = 10 * torch.log10(truth.square().sum((1, 2)) / (truth - estimate).square().sum((1, 2)))
    assert float(sdr.min()) > 10


def test_preparing_starts_from_the_mean_shares(pool: Path) -> None:
    trainer = Trainer(TINY)
    data = batches(trainer, pool, 4)
    before = trainer.loss(trainer.model, data[0]).item()
    trainer.prepare(data)
    assert trainer.loss(trainer.model, data[0]).item() < 0.5 * before


def test_stopping_and_going_on_changes_no_bit(pool: Path, tmp_path: Path) -> None:
    whole = Trainer(TINY)
    data = batches(whole, pool, 6)
    for i, batch in enumerate(data):
        whole.learn(batch, i / 6)
    half = Trainer(TINY)
    for i, batch in enumerate(data[:3]):
        half.learn(batch, i / 6)
    half.save(tmp_path)
    rest = Trainer(dataclasses.replace(TINY, schedule=dataclasses.replace(TINY.schedule, seed=9)))
    rest.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for i, batch in enumerate(data[3:], 3):
        rest.learn(batch, i / 6)
    for name in ("model", "average"):
        one, other = getattr(whole, name).state_dict(), getattr(rest, name).state_dict()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_workers_share_a_batch_without_changing_it(pool: Path) -> None:
    alone = Trainer(dataclasses.replace(TINY, schedule=dataclasses.replace(TINY.schedule, workers=1)))
    shared = Trainer(TINY)
    [batch] = batches(alone, pool, 1)
    assert alone.learn(batch, 0.5) == pytest.approx(shared.learn(batch, 0.5), rel=1e-3)
    for one, other in zip(alone.model.parameters(), shared.model.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("step", [0, 1])  # the first half, and the second
def test_learning_to_agree_makes_chunks_and_songs_agree(pool: Path, step: int) -> None:
    strict = dataclasses.replace(TINY.schedule, agreement=30.0, surroundings=4, agree_every=1)
    trainer = Trainer(dataclasses.replace(TINY, schedule=strict))
    trainer.step = step
    data = batches(trainer, pool, 8)
    trainer.prepare(data[:4])

    def differs() -> float:
        with torch.no_grad():
            masks = trainer.masks(trainer.model, data[0].mixture)
            return float(trainer.disagreement(trainer.model, data[0], masks))

    before = differs()
    for batch in data * 4:
        trainer.learn(batch, 0.3)
    trainer.step = step
    assert differs() < 0.5 * before


def test_a_net_that_hears_more_starts_from_one_that_heard_less(pool: Path, tmp_path: Path) -> None:
    old = Trainer(TINY)
    [batch] = batches(old, pool, 1)
    old.save(tmp_path)
    new = Trainer(dataclasses.replace(TINY, model={**TINY.model, "sides": True}))
    new.start_from(str(tmp_path / "model.safetensors"))
    wider = Batch(torch.cat([batch.mixture, torch.rand_like(batch.mixture)], 2), batch.targets, batch.merged)
    assert new.loss(new.model, wider).item() == pytest.approx(old.loss(old.average, batch).item(), rel=1e-2)


def test_another_model_is_not_resumed(tmp_path: Path) -> None:
    trainer = Trainer(TINY)
    trainer.save(tmp_path)
    other = Trainer(dataclasses.replace(TINY, model={**TINY.model, "width": 64}))
    with pytest.raises(UsageError, match="width"):
        other.restore(torch.load(tmp_path / "state.pt", weights_only=True))


def test_a_run_leaves_a_checkpoint_and_a_log(pool: Path, tmp_path: Path) -> None:
    trainer = Trainer(TINY)
    data = batches(trainer, pool, 20)
    train(trainer, data, tmp_path)
    header = read_header(tmp_path / "model.safetensors")
    assert header.training["steps"] == 20
    assert (tmp_path / "log.csv").read_text().startswith("20,")
    model = load(tmp_path / "model.safetensors")
    mix = torch.randn(1, 2, 5000)
    assert torch.allclose(model(mix).sum(1), mix, atol=1e-3)


def test_the_command(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as usage:
        main([])
    assert usage.value.code == 2
    recipe = tmp_path / "r.toml"
    recipe.write_text("[schedule]\nminuts = 3\n")
    assert main([str(recipe), str(pool), str(tmp_path / "run")]) == 2
    assert "unknown key 'minuts'" in capsys.readouterr().err
    model = "\n".join(f"{k} = {str(v) if isinstance(v, int) else repr(v)}" for k, v in TINY.model.items())
    recipe.write_text(
        f"[model]\n{model}\n[mixing]\nbatch = 2\nframes = 8\n[schedule]\nminutes = 0.02\nprecision = 'float32'\n"
    )
    assert main([str(recipe), str(pool), str(tmp_path / "run")]) == 0
    steps = read_header(tmp_path / "run/model.safetensors").training["steps"]
    assert steps > 0
    recipe.write_text(recipe.read_text().replace("minutes = 0.02", "minutes = 0.04"))
    assert main([str(recipe), str(pool), str(tmp_path / "run")]) == 0  # goes on
    assert read_header(tmp_path / "run/model.safetensors").training["steps"] > steps
    recipe.write_text(recipe.read_text().replace("minutes = 0.04", "minutes = 0.0001"))
    assert (
        main([str(recipe), str(pool), str(tmp_path / "new"), "--start", str(tmp_path / "run/model.safetensors")]) == 0
    )
    old, new = (load(tmp_path / run / "model.safetensors").state_dict() for run in ("run", "new"))
    assert float((old["input.conv.bias"] - new["input.conv.bias"]).abs().max()) < 0.05  # one step away


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = Schedule(rate=1.0, warmup=0.1)
    rates = [learning_rate(schedule, progress / 100) for progress in range(101)]
    assert max(rates) == rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)
    assert rates[55] == pytest.approx(0.5)
    assert math.isclose(learning_rate(schedule, 1.5), 0, abs_tol=1e-12)


@pytest.mark.parametrize("recipe", sorted((Path(__file__).parents[2] / "separate/training/recipes").glob("*.toml")))
def test_every_recipe_can_be_read_and_its_model_built(recipe: Path) -> None:
    trainer = Trainer(read_recipe(recipe))
    parameters = sum(p.numel() for p in trainer.model.parameters())
    assert 1e6 < parameters < 8e6  # compact: under 16 MiB at half precision


def test_recipes_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "a.toml").write_text("[model")
    with pytest.raises(UsageError, match="not TOML"):
        read_recipe(tmp_path / "a.toml")
    with pytest.raises(UsageError, match="needs bands"):
        Trainer(Recipe(model={"width": 32, "groups": 4}))
