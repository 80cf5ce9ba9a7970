"""What a model is trained for: a table of pure functions (model, batch) -> loss, and what makes their batches.

Sources that are known only as a sum count as a sum, whatever the objective, and what is above a recording's own limit
counts nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from separate.dsp.stft import magnitude
from separate.errors import UsageError
from separate.training.bands import BandMixer, band_loss, prepare
from separate.training.mad_losses import mad_losses, mad_target
from separate.training.mixing import Mixer, WaveMixer, Waves

__all__ = ["OBJECTIVES", "Objective", "choose_objective", "grouped", "known"]
__all__ += ["l1", "log_mse", "mad", "magnitude_l1", "magnitude_mse", "mse", "subband_l1"]


def l1(model: Any, batch: Waves) -> Tensor:
    """Take the mean absolute error of the waveforms that `model.forward` gives."""
    return waveform_error(model, batch).abs().mean()


def mse(model: Any, batch: Waves) -> Tensor:
    """Take the mean squared error of the waveforms that `model.forward` gives."""
    return waveform_error(model, batch).square().mean()


def log_mse(model: Any, batch: Waves) -> Tensor:
    """Take the mean squared error of log(1 + magnitude), for a D2-GRU that says just that."""
    if getattr(model.config, "output", "") != "log":
        raise UsageError('the objective "log-mse" is for d2-gru with output = "log"')
    said = model.net(model.stft(batch.mixture))  # (item, source, channel, bin, frame)
    true = magnitude(model.stft(batch.stems))
    if bool((batch.groups.sum(2) > 1).any()):
        said, true = grouped(said.clamp(min=0).expm1(), batch.groups).log1p(), grouped(true, batch.groups)
    error: Tensor = (said - true.log1p()) * heard_bins(batch, true.shape[-2])
    return error.square().mean()


def magnitude_l1(model: Any, batch: Waves) -> Tensor:
    """Take the mean absolute error of the magnitudes that `model.estimate` says of a spectrogram."""
    return magnitude_error(model, batch).abs().mean()


def magnitude_mse(model: Any, batch: Waves) -> Tensor:
    """Take the mean squared error of the magnitudes that `model.estimate` says of a spectrogram."""
    return magnitude_error(model, batch).square().mean()


def waveform_error(model: Any, batch: Waves) -> Tensor:
    """Compare waveforms, as far as they are known: (item, group, channel, time)."""
    said: Tensor = model(batch.mixture)  # (item, source, channel, time)
    if torch.is_grad_enabled() and not said.requires_grad:
        raise UsageError("waveforms cannot be learnt through a Wiener filter: set wiener = 0 in [model]")
    return known(grouped(said - batch.stems, batch.groups), batch)


def magnitude_error(model: Any, batch: Waves) -> Tensor:
    """Compare magnitudes, in the bins that the net speaks of: (item, group, channel, bin, frame)."""
    if not hasattr(model, "estimate") or getattr(model.config, "sides", False):
        raise UsageError("this objective is for models that estimate magnitudes of all sources from the mixture's")
    said = model.estimate(magnitude(model.stft(batch.mixture)))  # (item, source, channel, bin, frame)
    true = magnitude(model.stft(batch.stems))
    heard = heard_bins(batch, true.shape[-2])[..., : said.shape[-2], :]
    return grouped(said - true[..., : said.shape[-2], :], batch.groups) * heard


def mad(
    model: Any,
    batch: Waves,
    *,
    tau_rec: float = 1.5,
    tau_min: float = 0.25,
    lambda_mask: float = 1e-2,
    lambda_dec: float = 1e-4,
) -> Tensor:
    """Judge the Masker and Denoiser on sequences of mono mixes: see `mad_losses`.

    Frames whose windows reach beyond a mix are left out: songs have few such.
    """
    if not hasattr(model, "magnitudes") or not hasattr(model, "split"):
        raise UsageError('the objective "mad" is for the architecture mad')
    size, step = model.config.sequence, model.config.sequence - 2 * model.config.margin
    waves = batch.mixture, batch.stems[:, 0]
    half, hop = model.config.window // 2, model.config.hop
    first = -(-(half + model.stft.lead) // hop)
    last = (batch.mixture.shape[-1] - 1 - half + model.stft.lead) // hop
    if last + 1 - first < size:
        raise UsageError(f"[mixing] seconds must give {size} whole frames of {hop} samples, a sequence, or more")
    mixture, voice = (magnitude(model.stft(x.mean(1)))[..., first : last + 1] for x in waves)  # (item, bin, frame)

    def sequences(x: Tensor) -> Tensor:  # (item, bin, frame) -> (frame of a sequence, item · sequence, bin or band)
        heard = x * heard_bins(batch, x.shape[1])[:, 0, 0]
        bands = model.bands.compress(heard) if model.bands else heard
        return bands.unfold(2, size, step).permute(3, 0, 2, 1).flatten(1, 2)

    masked, denoised = model.magnitudes(sequences(mixture))
    target = model.inner(sequences(mad_target(mixture, voice)))
    return mad_losses(
        masked, denoised, target, model.mask.weight, model.denoiser_dec.weight,
        tau_rec=tau_rec, tau_min=tau_min, lambda_mask=lambda_mask, lambda_dec=lambda_dec,
    )  # fmt: skip


def subband_l1(model: Any, batch: Waves, *, conservation: float = 1.0) -> Tensor:
    """Take the mean absolute error of magnitudes in subbands, and of those of the sum of all sources.

    L = mean | |X̂ⱼ| − |Xⱼ| | + conservation · mean | |Σⱼ X̂ⱼ| − |Y| |
    """
    if not hasattr(model, "bank"):
        raise UsageError('the objective "subband-l1" is for the architectures cws-...')
    mixture = model.spectra(batch.mixture)  # (item, 4K, bin, frame)
    heard = mixture * model.gain(batch.mixture, mixture.shape[-1])
    said = torch.stack([model.mask(net, heard) * mixture for net in model.nets], 1)  # (item, source, 4K, bin, frame)
    true = model.spectra(batch.stems.flatten(0, 1)).view_as(said)
    known = heard_subbands(batch, model.config.bands, mixture.shape[2])  # (item, 1, band of a channel, bin, 1)
    error = joined(grouped(said, batch.groups)) - joined(grouped(true, batch.groups))
    lost = joined(said.sum(1)) - joined(mixture)
    return (error * known).abs().mean() + conservation * (lost * known[:, 0]).abs().mean()


def joined(parts: Tensor) -> Tensor:
    """Turn real and imaginary parts into magnitudes: (..., channel · 2, bin, frame) -> (..., channel, bin, frame)."""
    pairs = parts.view(*parts.shape[:-3], -1, 2, *parts.shape[-2:])
    return (pairs.square().sum(-3) + 1e-12).sqrt()  # whose gradient at silence is a number


def heard_subbands(batch: Waves, bands: int, bins: int) -> Tensor:
    """Mark the bins of subbands below each item's limit: (item, 1, channel · band, bin, 1); odd bands are reversed."""
    inside = torch.linspace(0, 1, bins, device=batch.limit.device)
    hertz = torch.stack([band + (1 - inside if band % 2 else inside) for band in range(bands)])  # (band, bin)
    hertz = hertz * (batch.rate / 2 / bands)
    return (hertz <= batch.limit[:, None, None]).float().repeat(1, 2, 1)[:, None, :, :, None]


def grouped(x: Tensor, groups: Tensor) -> Tensor:
    """Add up the sources of every group: (item, source, ...), (item, group, source) -> (item, group, ...)."""
    return x if bool((groups.sum(2) == 1).all()) else torch.einsum("igs,is...->ig...", groups, x)


def known(x: Tensor, batch: Waves) -> Tensor:
    """Leave out what is above the limits of a batch: (item, ..., time) -> (item, ..., time)."""
    if float(batch.limit.min()) >= batch.rate / 2:
        return x
    spectrum = torch.fft.rfft(x)
    heard = heard_bins(batch, spectrum.shape[-1])[..., 0]  # (item, 1, 1, bin)
    y: Tensor = torch.fft.irfft(spectrum * heard, n=x.shape[-1])
    return y


def heard_bins(batch: Waves, bins: int) -> Tensor:
    """Mark the bins below each item's limit: (item, 1, 1, bin, 1)."""
    hertz = torch.linspace(0, batch.rate / 2, bins, device=batch.limit.device)
    return (hertz <= batch.limit[:, None]).float()[:, None, None, :, None]


class Objective(NamedTuple):
    """A loss and what it needs."""

    loss: Callable[..., Tensor]  # (model, batch, settings of the recipe's [objective])
    batches: Callable[[Mixer, Any], Callable[[int], Any]] = lambda mixer, model: WaveMixer(mixer)  # step -> batch
    prepare: Callable[[Any, list[Any]], None] | None = None  # sets the first weights by some batches
    casts: bool = False  # the loss gives the net what is of its weights' precision


OBJECTIVES = {
    "bands": Objective(band_loss, BandMixer, prepare, casts=True),
    "l1": Objective(l1),
    "log-mse": Objective(log_mse),
    "magnitude-l1": Objective(magnitude_l1),
    "magnitude-mse": Objective(magnitude_mse),
    "mse": Objective(mse),
    "mad": Objective(mad, prepare=lambda model, batches: model.initialise()),
    "subband-l1": Objective(subband_l1),
}


def choose_objective(settings: Mapping[str, Any]) -> Objective:
    """Look up the objective that a recipe names, with its settings filled in."""
    given = dict(settings)
    name = given.pop("name", "l1")
    if not isinstance(name, str) or name not in OBJECTIVES:
        raise UsageError(f"[objective] unknown name {name!r}; known are {', '.join(OBJECTIVES)}")
    objective = OBJECTIVES[name]
    kinds = inspect.signature(objective.loss).parameters.values()
    allowed = {kind.name: kind.default for kind in kinds if kind.kind is kind.KEYWORD_ONLY}
    if unknown := sorted(set(given) - set(allowed)):
        raise UsageError(f"[objective] {name} has no setting {unknown[0]!r}; it has {', '.join(allowed) or 'none'}")
    for key, value in given.items():
        whole, least = isinstance(allowed[key], int), int(key == "agree_every")  # that one divides
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise UsageError(f"[objective] {key} must be a {'whole ' * whole}number, got {value!r}")
        most = 0.9 if key == "dropout" else 1e9
        if not least <= value <= most:  # which nan is not either
            raise UsageError(f"[objective] {key} must be from {least} to {most:.10g}, got {value!r}")
    settings = allowed | given
    if name == "bands" and settings["shares"] == settings["sdr"] == 0:
        raise UsageError("[objective] shares and sdr are both 0, so there is nothing to learn from; give one of them")
    return objective._replace(loss=partial(objective.loss, **given))
