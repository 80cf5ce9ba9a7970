from __future__ import annotations

import copy
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from separate.errors import UsageError
from separate.models import build
from separate.training.bands import BandBatch, BandMixer, BandSum, band_loss, dropped
from separate.training.config import Mixing
from separate.training.mixing import Mixer
from separate.training.pool import Pool, add_song
from tests.training.conftest import SOURCES, open_pool
from tests.training.test_mixing import PLAIN

MODEL = {"n_fft": 1024, "hop": 256, "bins": 400, "bands": 64, "width": 32, "groups": 4, "output": "mask"}


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    for i in range(3):
        noise = {s: torch.from_numpy(0.1 * rng.standard_normal((2, 44100))).float() for s in SOURCES}
        add_song(folder / "synth" / str(i), noise)
    return open_pool(folder)


def mix(pool: Pool, step: int = 0, sides: bool = False, **changes: Any) -> BandBatch:
    mixing: Mixing = dataclasses.replace(PLAIN, **changes)
    return BandMixer(Mixer(pool, mixing, 0), build("d2-gru", {**MODEL, "sides": sides}))(step)


@pytest.mark.parametrize("waves", [{"peak": 0.4}, {"clip": 0.5}])
def test_what_is_for_waveforms_is_refused(noises: Pool, waves: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="peak and clip are for objectives that mix waveforms"):
        mix(noises, **waves)


@pytest.mark.parametrize("step", [0, 1])
def test_surroundings_may_be_longer_than_a_mix(noises: Pool, step: int) -> None:
    net, batch = build("d2-gru", MODEL), dataclasses.replace(mix(noises), step=step)
    loss = band_loss(net, batch, agreement=1.0, surroundings=1000, agree_every=1)
    assert loss > band_loss(net, batch)
    assert torch.isfinite(loss)


def test_dropout_depends_on_the_step_alone(noises: Pool) -> None:
    net, batch = build("d2-gru", MODEL), mix(noises)
    with ThreadPoolExecutor(2) as threads:  # as the copies of a trainer do
        first, second = threads.map(lambda net: band_loss(net, batch, dropout=0.5), [copy.deepcopy(net), net])
    assert torch.equal(first, second)
    later = dataclasses.replace(batch, step=1)
    assert not torch.equal(first, band_loss(net, later, dropout=0.5))
    assert torch.equal(band_loss(net, batch), band_loss(net, later))  # nothing of it is left behind


def test_dropout_keeps_the_mean_and_silences_channels_at_all_times() -> None:
    net = build("d2-gru", MODEL).eval()
    x = torch.randn(20, 3, 32)
    heard: list[torch.Tensor] = []
    with torch.no_grad():
        whole = net.blocks[0].first(x)
        for seed in range(400):
            with dropped(net, 0.25, seed):
                heard.append(net.blocks[0].first(x))
    silent = (heard[0] == 0).all(0)  # (item, channel)
    assert 5 < int(silent.sum()) < 45  # of 96
    torch.testing.assert_close(heard[0][:, ~silent], whole[:, ~silent] / 0.75)
    torch.testing.assert_close(torch.stack(heard).mean(0), whole, rtol=0.2, atol=0.01)


def test_sums_over_bands_are_a_product_without_its_zeros() -> None:
    weight = build("d2-gru", MODEL).bands.weight[:, :400]
    x = torch.rand(3, 5, 400)
    for neighbours in (1, 7, 64, 999):
        torch.testing.assert_close(BandSum(weight, neighbours)(x), x @ weight.T, rtol=2e-2, atol=0)


def test_shapes_and_repeatability(noises: Pool) -> None:
    batch = mix(noises, step=4, turns=3, gain=3, equaliser=3, seconds=0.2)
    assert batch.mixture.shape == (35, 4, 64)
    assert batch.targets.shape == (35, 4, 4, 64)
    again = mix(noises, step=4, turns=3, gain=3, equaliser=3, seconds=0.2)
    assert torch.equal(batch.mixture, again.mixture)
    assert torch.equal(batch.targets, again.targets)


def test_powers_of_the_stems_add_up_to_that_of_the_mixture(noises: Pool) -> None:
    batch = mix(noises)
    # Averages of magnitudes of noise grow as the root of the sum of squares.
    total = batch.targets.square().sum(2).sqrt().mean()
    assert float(batch.mixture.mean() / total) == pytest.approx(1, abs=0.1)


def test_a_lone_source_is_the_mixture(noises: Pool) -> None:
    # Whatever its gain and equaliser, what is asked of the net and what it hears then agree.
    batch = mix(noises, gain=6, master=6, equaliser=4, absent=0.75, batch=16)
    sounding = (batch.targets.sum((0, 3)) > 0).sum(1)  # (item)
    alone = sounding == 1
    assert bool(alone.any())
    ratio = batch.targets.sum(2)[:, alone].sum(0) / batch.mixture[:, alone].sum(0)
    assert torch.allclose(ratio, torch.ones_like(ratio), atol=0.05)  # over wide bands the curve is not quite flat
    assert batch.mixture[:, sounding == 0].abs().sum() == 0


def test_what_is_at_the_sides(noises: Pool) -> None:
    batch = mix(noises, sides=True)
    assert batch.mixture.shape[2] == 128
    # Independent channels of noise: half of their power is in what they share, half in what they do not.
    heard, aside = (x.square().mean((0, 2)) for x in batch.mixture.chunk(2, 2))
    assert torch.allclose(batch.mixture[:, ::2, 64:], batch.mixture[:, 1::2, 64:])  # the same seen from both channels
    assert torch.allclose(aside / heard, torch.full((4,), 0.5), atol=0.1)
    mono = mix(noises, sides=True, mono=1)
    assert float(mono.mixture[..., 64:].max()) < 1e-3 * float(mono.mixture[..., :64].mean())


def test_places_between_left_and_right(noises: Pool) -> None:
    panned = mix(noises, panned=1, pan=6, batch=8)
    left, right = panned.targets[:, ::2].mean((0, 3)), panned.targets[:, 1::2].mean((0, 3))  # (song, source)
    assert float((left / right).log2().abs().max()) > 0.5
    wide, plain = (mix(noises, width=width, batch=16, sides=True).mixture for width in (1, 0))
    shares, usual = (x[..., 64:].mean((0, 2)) / x[..., :64].mean((0, 2)) for x in (wide, plain))
    assert float(shares.std()) > 3 * float(usual.std())  # some narrower, some wider


def test_songs_of_which_less_is_known(tmp_path: Path) -> None:
    x = 0.1 * torch.randn(2, 22050)
    add_song(tmp_path / "songs/a", {"vocals": x, "drums": x, "other": x}, limit=8000)
    batch = mix(open_pool(tmp_path))
    assert batch.groups[0, SOURCES.index("other")].tolist() == [0, 0, 1, 1]
    assert batch.targets[:, :, SOURCES.index("bass")].sum() == 0
    assert batch.audible[:, 0].tolist() == [1] * 4
    assert batch.audible[:, -1].tolist() == [0] * 4
    left, right = batch.split(2)
    assert left.mixture.shape == right.mixture.shape == (18, 2, 64)
    assert left.groups.shape == (2, 4, 4)


def test_energies_are_those_of_the_spectra(noises: Pool) -> None:
    batch = mix(noises, gain=3, equaliser=3, absent=0.3)
    # What stems have in common with the mixture adds up to the mixture's own power, band by band.
    assert torch.allclose(batch.common.sum(2), batch.power, rtol=0.05, atol=0.02 * float(batch.power.mean()))
    # Stems are independent: what a stem has in common with the mixture is its own energy, about.
    own, shared = batch.energy.sum((0, 3)), batch.common.sum((0, 3))
    assert torch.allclose(shared, own, rtol=0.1, atol=0.1 * float(own.mean()))


def test_the_loss_of_stems_falls(noises: Pool) -> None:
    model = build("d2-gru", MODEL)
    batch = mix(noises, equaliser=12, seconds=0.3)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        loss = band_loss(model, batch, shares=0, sdr=1, agreement=0.1, surroundings=4)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
