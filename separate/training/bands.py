"""Train a D2-GRU by its masks over bands: mixes are made of spectra, and no net ever sees a waveform.

That is what makes two cores enough: stems are transformed once and serve for several mixes, in as many bands as the net
hears, and losses on masks cost less than the net does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from separate.device import worthwhile
from separate.errors import UsageError
from separate.models.d2gru import D2GRU, DilatedGRU
from separate.training.losses import disagreement, mask_loss, sdr_loss
from separate.training.mixing import Mixer, Order, random_gains

__all__ = ["BandBatch", "BandMixer", "band_loss", "masks", "prepare"]


@dataclass(frozen=True)
class BandBatch:
    """A batch of mixes, as magnitudes averaged over bands; an item is a channel of a mix."""

    mixture: Tensor  # (frame, item, band), or twice as many bands where the net hears the sides too
    targets: Tensor  # (frame, item, source, band)
    common: Tensor  # (frame, item, source, band): Re(stem · mixture*), summed over a band
    power: Tensor  # (frame, item, band): |mixture|², summed likewise
    energy: Tensor  # (frame, item, source, band): |stem|², summed likewise
    groups: Tensor  # (item, group, source)
    audible: Tensor  # (item, band): 1 where something is known
    step: int = 0

    @property
    def items(self) -> int:
        """How many channels of mixes there are."""
        return len(self.groups)

    def split(self, pieces: int) -> list[BandBatch]:
        """Deal the items out to `pieces` batches, or to one each if there are fewer."""
        pieces, framed = min(pieces, self.items), (self.mixture, self.targets, self.common, self.power, self.energy)
        others = (x.tensor_split(pieces) for x in (self.groups, self.audible))
        parts = zip(*(x.tensor_split(pieces, 1) for x in framed), *others, [self.step] * pieces, strict=True)
        return [BandBatch(*part) for part in parts]


class BandSum:
    """Weighted sums over bands, (..., bin) -> (..., band): products of some neighbours and the bins that they hear."""

    def __init__(self, weight: Tensor, neighbours: int = 32) -> None:
        """Take weights (band, bin), of which all but those near a band are zero."""
        low = worthwhile(torch.bfloat16, weight.device)
        self.parts = []
        for bands in torch.split(weight, neighbours):
            heard = bands.any(0).nonzero()
            span = slice(int(heard.min()), int(heard.max()) + 1)
            self.parts.append((span, bands[:, span].T.to(low)))  # (bin, band)

    def __call__(self, x: Tensor) -> Tensor:
        """Sum: (..., bin) -> (..., band)."""
        return torch.cat([x[..., span].to(weight.dtype) @ weight for span, weight in self.parts], -1).float()


class BandMixer:
    """Mixes spectra: step -> batch, with every stem at another level and behind another equaliser."""

    def __init__(self, mixer: Mixer, model: D2GRU) -> None:
        if getattr(model.config, "output", "") != "mask" or model.bands is None:
            raise UsageError('the objective "bands" is for d2-gru with bands and output = "mask"')
        if mixer.mixing.peak or mixer.mixing.clip:
            raise UsageError('[mixing] peak and clip are for objectives that mix waveforms; "bands" mixes spectra')
        self.mixer, self.sides = mixer, model.config.sides
        self.stft, self.bins = model.stft, model.bands.bins
        weight = model.bands.weight[:, : self.bins]
        self.total, self.average = BandSum(weight), BandSum(weight / weight.sum(1, keepdim=True))
        bins = torch.arange(self.bins, dtype=torch.float32, device=weight.device)
        hertz = mixer.pool.rate / self.stft.n_fft
        self.centres = (weight @ bins) / weight.sum(1) * hertz  # of bands, Hz
        self.octaves = [torch.log2(at.clamp(30, 30_000) / 30) for at in (bins * hertz, self.centres)]  # ten of them
        self.drawn: tuple[int, Tensor, Tensor, Tensor, Tensor] | None = None

    def __call__(self, step: int) -> BandBatch:
        """Mix the batch of a step."""
        turn = step // self.mixer.mixing.turns
        if self.drawn is None or self.drawn[0] != turn:
            stems = self.mixer.draw(step)
            spec = self.stft(stems.waves).transpose(3, 4)[..., : self.bins]  # in memory, it is that way round already
            # Real and imaginary parts are far from each other, so that what is computed of both is of long rows.
            spec = torch.stack([spec.real, spec.imag])
            self.drawn = turn, spec, self.heard(spec), stems.groups, stems.limits
        _, spec, heard, groups, limits = self.drawn
        rng = self.mixer.rng(step)
        return self.mix(spec, heard, groups, limits, self.mixer.order(groups, step), step, rng)

    def heard(self, spec: Tensor) -> Tensor:
        """Average magnitudes over bands: (2, ..., bin) -> (..., band)."""
        return self.average(product(spec, spec).sqrt_())

    def mix(
        self,
        spec: Tensor,  # (2, song, source, channel, frame, bin)
        heard: Tensor,  # (song, source, channel, frame, band)
        groups: Tensor,
        limits: Tensor,
        order: Order,
        step: int,
        rng: np.random.Generator,
    ) -> BandBatch:
        """Mix songs, given as stems and as what is `heard` of those, in bands."""
        gains = random_gains(self.mixer.mixing, rng, self.mixer.pool.sources)[self.mixer.mine].to(spec.device)
        fine, coarse = self.curves(gains.unsqueeze(3), rng)  # (song, source, channel, bin or band)
        parts = torch.stack([spec[:, songs, source] for source, songs in enumerate(order)], 2)
        parts *= fine.unsqueeze(3)
        mixture = parts.sum(2)  # (2, song, channel, frame, bin)
        common = self.total(product(parts, mixture.unsqueeze(2)))  # (song, source, channel, frame, band)
        energy = self.total(product(parts, parts))  # likewise
        targets = torch.stack([heard[songs, source] for source, songs in enumerate(order)], 1) * coarse.unsqueeze(3)
        limit = torch.stack([limits[songs, source] for source, songs in enumerate(order)], 1).amin(1)
        inputs = self.heard(mixture)  # (song, channel, frame, band)
        if self.sides:
            inputs = torch.cat([inputs, self.heard(mixture - mixture.mean(2, keepdim=True))], 3)
        return BandBatch(
            inputs.flatten(0, 1).transpose(0, 1),
            targets.permute(3, 0, 2, 1, 4).flatten(1, 2),
            common.permute(3, 0, 2, 1, 4).flatten(1, 2),
            self.total(product(mixture, mixture)).flatten(0, 1).transpose(0, 1),
            energy.permute(3, 0, 2, 1, 4).flatten(1, 2),
            groups.repeat_interleave(2, 0),
            (self.centres < limit[:, None]).float().repeat_interleave(2, 0),
            step,
        )

    def curves(self, gains: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw a smooth equaliser for every stem, times its gain: over bins, and its magnitude over bands."""
        depth = self.mixer.mixing.equaliser
        drawn = rng.normal(0, depth, (self.mixer.mixing.batch, gains.shape[1], 1, 11))[self.mixer.mine]
        points = torch.from_numpy(drawn).float().to(gains.device)
        fine, coarse = (
            torch.lerp(points[..., at.long()], points[..., at.long() + 1], at.frac()) for at in self.octaves
        )
        return 10 ** (fine / 20) * gains, 10 ** (coarse / 20) * gains.abs()


def product(x: Tensor, y: Tensor) -> Tensor:
    """Compute Re(x y*) of real and imaginary parts: twice (2, ...) -> (...)."""
    return (x[0] * y[0]).addcmul_(x[1], y[1])


def masks(net: D2GRU, mixture: Tensor, dropout: float = 0.0, seed: int = 0) -> Tensor:
    """Run the net on band magnitudes: (frame, item, band) -> (frame, item, source, band)."""
    with dropped(net, dropout, seed):
        x = net.input(torch.log1p(mixture).to(next(net.parameters()).dtype))
        for block in net.blocks:
            x = block(x)
    y: Tensor = net.output.linear(x).float()  # (frame, item, source · band)
    return torch.unflatten(y, 2, (len(net.sources), -1)).sigmoid()


@contextmanager
def dropped(net: D2GRU, share: float, seed: int) -> Iterator[None]:
    """Silence channels of what the GRUs say, for a whole mix: noise that changes with every frame would average out.

    What is drawn depends on the seed only, and not on which thread draws first.
    """
    random = torch.Generator().manual_seed(seed)

    def drop(layer: nn.Module, inputs: tuple[Tensor, ...], said: Tensor) -> Tensor:
        kept = (torch.rand(1, *said.shape[1:], generator=random) >= share).to(said)  # (1, item, width)
        return said * (kept / (1 - share))

    layers = [layer for layer in net.modules() if isinstance(layer, DilatedGRU)] if share else []
    hooks = [layer.register_forward_hook(drop) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def band_loss(
    net: D2GRU,
    batch: BandBatch,
    *,
    shares: float = 1.0,
    sdr: float = 0.0,
    first: float = 1.0,
    second: float = 1.0,
    agreement: float = 0.0,
    surroundings: int = 43,
    agree_every: int = 2,
    dropout: float = 0.0,
) -> Tensor:
    """Judge the masks of `net` on a batch: as `shares` of magnitudes, which is learnt fast, and by the `sdr` of stems.

    Of these the `first` and the `second` may count more.

    With an `agreement`, every so many batches also what it says of one half of the mixes, given `surroundings` frames
    beyond the middle and a random memory, against what it says of the whole. A net that forgets within these
    surroundings, whatever went before, separates chunks as it does whole songs: on three seconds at a time alone, GRUs
    learn states that drift over minutes.

    With a `dropout`, GRUs say nothing on that share of their channels, in every batch on others.
    """
    assert net.bands is not None
    weight = net.bands.weight[:, : net.bins].sum(1).float().sqrt()  # √(bins of a band)
    said = masks(net, batch.mixture, dropout, batch.step)
    loss = said.new_zeros(())
    if shares:
        loss = shares * mask_loss(said, batch.targets, weight * batch.audible, batch.groups)
    if sdr:
        known = batch.audible.unsqueeze(1)  # (item, source, band)
        parts = batch.common * known, batch.power * batch.audible, batch.energy * known
        loss = loss + sdr * sdr_loss(said, *parts, batch.groups, first, second)
    if not agreement or batch.step % agree_every:
        return loss
    middle = len(batch.mixture) // 2
    energy = (batch.mixture[..., : len(weight)] * weight) ** 2
    if batch.step // agree_every % 2:
        part = masks_from_anywhere(net, batch.mixture[: middle + surroundings], batch.step, dropout)[:middle]
        return loss + agreement * disagreement(said[:middle], part, energy[:middle])
    begin = max(0, middle - surroundings)
    part = masks_from_anywhere(net, batch.mixture[begin:], batch.step, dropout)[middle - begin :]
    return loss + agreement * disagreement(said[middle:], part, energy[middle:])


def masks_from_anywhere(net: D2GRU, mixture: Tensor, seed: int, dropout: float) -> Tensor:
    """Run the net with random states at the beginning of its GRUs, as if anything had gone before."""
    random = torch.Generator(mixture.device).manual_seed(seed)

    def start(gru: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (x,) = inputs
        assert isinstance(gru, nn.GRU)
        state = torch.rand(1, x.shape[1], gru.hidden_size, generator=random, device=x.device)
        return x, (2 * state - 1).to(x.dtype)

    hooks = [layer.register_forward_pre_hook(start) for layer in net.modules() if isinstance(layer, nn.GRU)]
    try:
        return masks(net, mixture, dropout, seed)
    finally:
        for hook in hooks:
            hook.remove()


def prepare(net: D2GRU, batches: list[BandBatch]) -> None:
    """Start where the data are: standardise what the net hears, and let it guess every source's mean share."""
    heard = torch.log1p(torch.cat([batch.mixture for batch in batches], 1)).flatten(0, 1)  # (frame · item, band)
    targets = torch.cat([batch.targets for batch in batches], 1).mean((0, 1))  # (source, band)
    share = targets / targets.sum(0).clamp(min=1e-8)
    mean, std = heard.mean(0), heard.std(0).clamp(min=0.1)
    first, last = net.input.conv, net.output.conv
    with torch.no_grad():
        first.weight /= std[:, None]
        first.bias -= torch.einsum("oik,i->o", first.weight, mean)  # type: ignore[operator]
        last.bias.copy_(torch.logit(share, 0.01).flatten())  # type: ignore[union-attr]
