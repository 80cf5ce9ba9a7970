from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from separate.errors import UsageError
from separate.training.config import Mixing, Recipe, Schedule
from separate.training.trainer import Trainer, learning_rate
from tests.training.conftest import TINY, open_pool


def changed(recipe: Recipe, **schedule: Any) -> Recipe:
    return dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, **schedule))


def batches(trainer: Trainer, pool: Path, count: int) -> list[Any]:
    make = trainer.batches(open_pool(pool))
    return [make(step) for step in range(count)]


def test_it_learns_to_separate(pool: Path) -> None:
    trainer = Trainer(TINY)
    make = trainer.batches(open_pool(pool))
    trainer.prepare(make)
    losses = [trainer.learn(make(step), 0.3) for step in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    # And what it learnt holds in the time domain, through the model's own forward.
    stems = {s: np.load(pool / "synth/0" / f"{s}.npy").astype(np.float32) for s in trainer.model.sources}
    truth = torch.stack([torch.from_numpy(stems[s]) for s in trainer.model.sources])
    with torch.no_grad():
        estimate = trainer.average(truth.sum(0)[None])[0]
    sdr = 10 * torch.log10(truth.square().sum((1, 2)) / (truth - estimate).square().sum((1, 2)))
    assert float(sdr.min()) > 10


def test_preparing_starts_from_the_mean_shares(pool: Path) -> None:
    trainer = Trainer(TINY)
    make = trainer.batches(open_pool(pool))
    before = trainer.objective.loss(trainer.model, make(0)).item()
    trainer.prepare(make)
    assert trainer.objective.loss(trainer.model, make(0)).item() < 0.5 * before


def test_copies_share_a_batch_without_changing_it(pool: Path) -> None:
    alone, shared = Trainer(changed(TINY, workers=1)), Trainer(TINY)
    plain = Trainer(changed(TINY, workers=0))
    [batch] = batches(alone, pool, 1)
    losses = [trainer.learn(batch, 0.5) for trainer in (alone, shared, plain)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-2)
    for one, *others in zip(*(trainer.model.parameters() for trainer in (alone, shared, plain)), strict=True):
        for other in others:
            assert torch.allclose(one.grad, other.grad, rtol=0.05, atol=1e-4)


def test_a_batch_in_pieces_gives_the_same_gradients(pool: Path) -> None:
    model = {"n_fft": 512, "hop": 128, "width": 32, "groups": 4}
    recipe = dataclasses.replace(TINY, objective={"name": "log-mse"}, model=model)
    whole, pieces = Trainer(changed(recipe, workers=0)), Trainer(changed(recipe, workers=0, accumulate=2))
    [batch] = batches(whole, pool, 1)
    assert whole.gradients(batch) == pytest.approx(pieces.gradients(batch), rel=1e-4)
    for one, other in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("share", [{"accumulate": 2}, {"workers": 2}, {"workers": 3}, {"workers": 2, "accumulate": 2}])
def test_pieces_of_unequal_size_count_by_their_mixes(pool: Path, share: dict[str, int]) -> None:
    model = {"n_fft": 512, "hop": 128, "width": 32, "groups": 4}
    recipe = dataclasses.replace(
        TINY, objective={"name": "log-mse"}, model=model, mixing=dataclasses.replace(TINY.mixing, batch=5, gain=6)
    )
    whole, shared = Trainer(changed(recipe, workers=0)), Trainer(changed(recipe, **{"workers": 0} | share))
    [batch] = batches(whole, pool, 1)
    assert whole.gradients(batch) == pytest.approx(shared.gradients(batch), rel=1e-4)
    for one, other in zip(whole.model.parameters(), shared.model.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-6)


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "open-unmix": ("magnitude-mse", {"hidden": 16, "n_fft": 512, "hop": 128, "bins": 200, "dropout": 0.0}),
    "cws-unet": ("subband-l1", {"widths": [8, 16], "dropout": 0.0}),
    "mad": ("mad", {"n_fft": 512, "window": 257, "hop": 48, "bins": 40, "hidden": 32, "iterations": 2}),
    "demucs": ("l1", {"channels": 8, "depth": 3}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_copies_of_any_net_learn_in_lower_precision(pool: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("separate.training.trainer.worthwhile", lambda dtype, device: dtype)
    objective, model = OTHERS[name]
    recipe = dataclasses.replace(
        TINY, architecture=name, model=model, objective={"name": objective}, mixing=Mixing(batch=2, seconds=0.2)
    )
    whole, copies = (Trainer(changed(recipe, workers=n, precision="bfloat16")) for n in (0, 2))
    make = whole.batches(open_pool(pool, whole.model.sources))
    for trainer in (whole, copies):
        trainer.prepare(make)
    assert copies.learn(make(0), 0.5) == pytest.approx(whole.learn(make(0), 0.5), rel=0.05)
    assert all(weight.isfinite().all() for weight in copies.model.parameters())


@pytest.mark.parametrize("name", ["open-unmix", "cws-unet"])
def test_copies_that_would_race_for_chance_are_refused(name: str) -> None:
    objective, model = OTHERS[name]
    recipe = dataclasses.replace(TINY, architecture=name, model=model | {"dropout": 0.5}, objective={"name": objective})
    for workers in (0, 1):
        Trainer(changed(recipe, workers=workers))
    with pytest.raises(UsageError, match=r"\[schedule\] workers = 2 and \[model\] dropout = 0\.5 do not go together"):
        Trainer(recipe)


def test_every_process_finds_a_batch_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"is_initialized": True, "get_rank": 0, "get_world_size": 3}.items():
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    with pytest.raises(UsageError, match=r"\[mixing\] batch must be 3 or more for 3 processes, got 2"):
        Trainer(TINY)


def test_copies_keep_what_their_norms_have_heard(pool: Path) -> None:
    objective, model = OTHERS["open-unmix"]
    recipe = dataclasses.replace(TINY, architecture="open-unmix", model=model, objective={"name": objective})
    whole, copies = (Trainer(changed(recipe, workers=n)) for n in (0, 2))
    [batch] = batches(whole, pool, 1)
    tables = dict(copies.model.named_buffers())
    before = {name: table.clone() for name, table in tables.items()}
    for trainer in (whole, copies):
        trainer.learn(batch, 0.5)
    heard = dict(whole.model.named_buffers())
    means = [name for name in heard if name.endswith("running_mean")]
    assert torch.allclose(tables[means[0]], heard[means[0]], rtol=1e-3, atol=1e-6)  # of two halves, or of the whole
    for name in heard:
        assert torch.equal(tables[name], dict(copies.average.named_buffers())[name])
        assert ("running" in name) != torch.equal(tables[name], before[name]) or name.endswith("tracked")
        if name.endswith("num_batches_tracked"):
            assert tables[name] == 1


@pytest.mark.parametrize("step", [0, 1])  # the first half, and the second
def test_learning_to_agree_makes_chunks_and_songs_agree(pool: Path, step: int) -> None:
    def differing(agreement: float) -> float:
        """Train, then measure what one half heard alone says otherwise."""
        settings = {"name": "bands", "agreement": agreement, "surroundings": 4, "agree_every": 1}
        trainer = Trainer(dataclasses.replace(TINY, objective=settings))
        data = [dataclasses.replace(batch, step=step) for batch in batches(trainer, pool, 4)]
        for batch in data * 3:
            trainer.learn(batch, 0.3)
        judge = Trainer(dataclasses.replace(TINY, objective={**settings, "agreement": 1.0})).objective.loss
        plain = Trainer(TINY).objective.loss
        return (judge(trainer.model, data[0]) - plain(trainer.model, data[0])).item()

    assert differing(30.0) < 0.5 * differing(0.0)


def test_a_net_that_hears_more_starts_from_one_that_heard_less(pool: Path, tmp_path: Path) -> None:
    old = Trainer(TINY)
    [batch] = batches(old, pool, 1)
    old.save(tmp_path, {})
    new = Trainer(dataclasses.replace(TINY, model={**TINY.model, "sides": True}))
    new.start_from(str(tmp_path / "last.safetensors"))
    wider = dataclasses.replace(batch, mixture=torch.cat([batch.mixture, torch.rand_like(batch.mixture)], 2))
    before, after = (t.objective.loss(t.model, b).item() for t, b in ((old, batch), (new, wider)))
    assert after == pytest.approx(before, rel=1e-4)


def test_a_deeper_net_starts_from_a_shallower_one_and_learns_in_all_its_blocks(pool: Path, tmp_path: Path) -> None:
    old = Trainer(TINY)
    [batch] = batches(old, pool, 1)
    old.save(tmp_path, {})
    blocks = len(old.model.blocks) + 1
    depth = {"gru_dilation": [2] * blocks, "conv_dilation": [2] * blocks}
    fewer = {"gru_dilation": [2] * (blocks - 1), "conv_dilation": [2] * (blocks - 1)}
    old = Trainer(dataclasses.replace(TINY, model={**TINY.model, **fewer}))
    old.start_from(str(tmp_path / "last.safetensors"))
    new = Trainer(dataclasses.replace(TINY, model={**TINY.model, **depth}))
    new.start_from(str(tmp_path / "last.safetensors"))
    before, after = (t.objective.loss(t.model, batch).item() for t in (old, new))
    assert after == pytest.approx(before, rel=1e-5)
    started = {name: weight.clone() for name, weight in new.model.blocks[-1].state_dict().items()}
    for _ in range(3):
        new.learn(batch, 0.5)
    assert all((weight != started[name]).any() for name, weight in new.model.blocks[-1].state_dict().items())


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    Trainer(TINY).save(tmp_path, {})
    other = Trainer(dataclasses.replace(TINY, model={**TINY.model, "width": 64}))
    with pytest.raises(UsageError, match="of another model"):
        other.start_from(str(tmp_path / "last.safetensors"))


def test_another_recipe_is_not_resumed(tmp_path: Path) -> None:
    Trainer(TINY).save(tmp_path, {})
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    wider = dataclasses.replace(TINY, model={**TINY.model, "width": 64})
    with pytest.raises(UsageError, match=r"model\.width was 32 and is 64"):
        Trainer(wider).restore(state)
    with pytest.raises(UsageError, match=r"schedule\.rate was 0\.005 and is 0\.1"):
        Trainer(changed(TINY, rate=0.1)).restore(state)
    Trainer(changed(TINY, minutes=3.0, steps=20)).restore(state)  # longer is no other


def test_weight_norm_is_learnt_and_folded(pool: Path, tmp_path: Path) -> None:
    trainer = Trainer(changed(TINY, weight_norm=True, workers=0, optimiser="adam"))
    assert any("original0" in name for name, _ in trainer.model.named_parameters())
    [batch] = batches(trainer, pool, 1)
    trainer.learn(batch, 0.5)
    trainer.save(tmp_path, {})
    with torch.no_grad():
        mix = torch.randn(1, 2, 3000)
        from separate.checkpoints.weights import load

        assert torch.allclose(load(tmp_path / "last.safetensors")(mix), trainer.average(mix), atol=1e-4)


def test_what_does_not_fit_is_refused(pool: Path) -> None:
    with pytest.raises(UsageError, match=r"\[model\] d2-gru has no setting 'widht'"):
        Trainer(Recipe(model={"widht": 32}))
    with pytest.raises(UsageError, match="unknown name 'nothing'; known are bands, "):
        Trainer(dataclasses.replace(TINY, objective={"name": "nothing"}))
    with pytest.raises(UsageError, match="bands has no setting 'agreemint'; it has shares, sdr, first, second, "):
        Trainer(dataclasses.replace(TINY, objective={"name": "bands", "agreemint": 1}))
    l1 = Trainer(dataclasses.replace(TINY, objective={"name": "l1"}))
    with pytest.raises(UsageError, match="cannot be learnt through a Wiener filter"):
        l1.learn(batches(l1, pool, 1)[0], 0)
    with pytest.raises(UsageError, match="with bands and output"):
        batches(Trainer(dataclasses.replace(TINY, model={"width": 32, "groups": 4})), pool, 1)
    with pytest.raises(UsageError, match='"log-mse" is for d2-gru with output = "log"'):
        Trainer(dataclasses.replace(TINY, objective={"name": "log-mse"})).objective.loss(Trainer(TINY).model, None)


FULL_DISK = """
import resource, sys
from pathlib import Path
from separate.errors import OutputError
from separate.training.trainer import Trainer
from tests.training.conftest import TINY
trainer, run = Trainer(TINY), Path(sys.argv[1])
trainer.save(run, {})
before = {path.name: path.read_bytes() for path in run.iterdir()}
trainer.step = 7
for limit, what in ((10_000, "state.pt"), (trainer_size := len(before["state.pt"]) + 1000, "")):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        trainer.save(run, {})
    except OutputError as error:
        print(error)
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    else:
        print("saved")
"""


def test_a_full_disk_leaves_the_last_good_state(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failed, saved = done.stdout.splitlines()
    assert failed == f"{tmp_path}/state.pt: cannot be saved; is the disk full? The last one is kept"
    assert saved == "saved"


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = Schedule(rate=1.0, warmup=0.1, cosine=True)
    rates = [learning_rate(schedule, progress / 100) for progress in range(101)]
    assert max(rates) == rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)
    assert rates[55] == pytest.approx(0.5)
    assert math.isclose(learning_rate(schedule, 1.5), 0, abs_tol=1e-12)


def test_the_learning_rate_stays_or_decays_by_the_hour() -> None:
    assert [learning_rate(Schedule(rate=2.0), x) for x in (0, 0.5, 1)] == [2.0] * 3
    decaying = Schedule(rate=1.0, decay=0.87, decay_hours=30)
    assert [learning_rate(decaying, 0, hours) for hours in (0, 29, 31, 65)] == pytest.approx([1, 1, 0.87, 0.87**2])
