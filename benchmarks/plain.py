"""The models that have no package of their own, written straight down, and how a peer separates a file.

    python -m benchmarks.plain KIND CHECKPOINT SONG OUT

Plain torch without any thought of speed: nn.GRU, nn.GRUCell, nn.Conv2d, torch.stft and torch.istft, with norbert's
Wiener filter. KIND is "d2-gru", "mad" or "cws" for those, "demucs" or "open-unmix" for a package with its nets. The
weights are those of a checkpoint of ours. What this does is what `benchmarks.speed` compares the command with.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

__all__ = ["PlainCWS", "PlainD2GRU", "PlainMaD", "nets_of"]

State = dict[str, Tensor]


class PlainD2GRU(nn.Module):
    """The paper's net: (batch, channel, bin, frame) -> (batch · channel, source · bin, frame)."""

    def __init__(self, width: int, bins: int, sources: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.input = nn.Conv1d(bins, width, 3, padding=1)
        self.grus = nn.ModuleList(nn.GRU(width, width, bidirectional=True, batch_first=True) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d, groups=32) for d in (2, 4, 8))
        self.output = nn.Conv1d(width, sources * bins, 3, padding=1)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """(batch, channel, bin, frame) -> (batch · channel, source · bin, frame)."""
        x = F.leaky_relu(self.input(magnitudes.flatten(0, 1).log1p()), 0.01)
        for gru, conv in zip(self.grus, self.convs, strict=True):
            a = torch.empty_like(x)
            for phase in range(self.dilation):
                y = gru(x[..., phase :: self.dilation].transpose(1, 2))[0].transpose(1, 2)
                a[..., phase :: self.dilation] = sum(y.chunk(2, 1))
            x = x + a + F.leaky_relu(conv(a), 0.01)
        out: Tensor = self.output(x).clamp(min=0).expm1()
        return out


def d2gru(state: State, config: dict[str, Any]) -> PlainD2GRU:
    """Make the net with weights of ours."""
    net = PlainD2GRU(config["width"], config["n_fft"] // 2 + 1, len(config["sources"]), config["gru_dilation"][0])
    names = {"input.conv": "input", "output.conv": "output"}
    for i in range(3):
        names |= {f"blocks.{i}.first.ahead": f"grus.{i}", f"blocks.{i}.second.conv": f"convs.{i}"}
        names[f"blocks.{i}.first.back"] = f"grus.{i}"
    renamed = {}
    for name, value in state.items():
        part, _, leaf = name.rpartition(".")
        renamed[f"{names[part]}.{leaf}{'_reverse' if part.endswith('back') else ''}"] = value
    net.load_state_dict(renamed)
    return net.eval()


class PlainMaD(nn.Module):
    """The Masker and Denoiser of sequences of magnitudes: (sequence, frame, bin) -> what to multiply its middle by."""

    def __init__(self, bins: int, heard: int, hidden: int, margin: int, iterations: int, tolerance: float) -> None:
        super().__init__()
        self.heard, self.margin, self.iterations, self.tolerance = heard, margin, iterations, tolerance
        self.ahead = nn.GRUCell(heard, heard)
        self.back = nn.GRUCell(heard, heard)
        self.decoder = nn.GRU(2 * heard, 2 * heard, batch_first=True)
        self.mask = nn.Linear(2 * heard, bins)
        self.denoiser_enc = nn.Linear(bins, hidden)
        self.denoiser_dec = nn.Linear(hidden, bins)

    def forward(self, x: Tensor) -> Tensor:
        """(sequence, frame, bin) -> (sequence, frame without margins, bin)."""
        low, inner = x[..., : self.heard], slice(self.margin, x.shape[1] - self.margin)
        h = torch.cat([self.run(self.ahead, low), self.run(self.back, low.flip(1))], 2)[:, inner]
        y = self.decoder(h)[0]
        going = torch.arange(len(y))
        for _ in range(self.iterations):
            last = y[going]
            y[going] = new = self.decoder(last)[0]
            going = going[(new - last).square().mean((1, 2)) >= self.tolerance]
            if not len(going):
                break
        mask: Tensor = self.mask(y).relu()
        gain: Tensor = self.denoiser_dec(self.denoiser_enc(mask * x[:, inner]).relu()).relu()
        return mask * gain

    def run(self, cell: nn.GRUCell, x: Tensor) -> Tensor:
        """Feed the input back, frame by frame."""
        state, states = torch.zeros_like(x[:, 0]), []
        for frame in x.unbind(1):
            state = cell(frame, state) + frame
            states.append(state)
        return torch.stack(states, 1)


def mad(state: State, config: dict[str, Any]) -> PlainMaD:
    """Make the net with weights of ours."""
    sizes = (config[name] for name in ("bins", "hidden", "margin", "iterations", "tolerance"))
    net = PlainMaD(config["n_fft"] // 2 + 1, *sizes)
    cells = ("ahead", "back")
    net.load_state_dict({n.removesuffix("_l0") if n.startswith(cells) else n: value for n, value in state.items()})
    return net.eval()


class PlainCWS(nn.Module):
    """The UNet-5 of one source: (batch, channel, bin, frame) -> masks of the same shape."""

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.first = block(channels, widths[0])
        self.down = nn.ModuleList(block(a, b) for a, b in pairwise(widths))
        above = [widths[0], *widths[:-2]]  # what a scale hands up
        below = [*above[1:], widths[-1]]
        self.up = nn.ModuleList(block(widths[i] + below[i], above[i]) for i in reversed(range(len(above))))
        self.last = nn.Conv2d(above[0], channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, bin, frame) -> the same."""
        frames = x.shape[3]
        scales = [self.first(F.pad(x, (0, -frames % 2 ** len(self.down))))]
        for down in self.down:
            scales.append(down(F.max_pool2d(scales[-1], 2)))
        x = scales.pop()
        for up in self.up:
            skip = scales.pop()
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = up(torch.cat([skip, F.pad(x, (0, 0, 0, skip.shape[2] - x.shape[2]))], 1))
        out: Tensor = self.last(x)[..., :frames].sigmoid()
        return out


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, each with normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [nn.Conv2d(before, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def cws(state: State, config: dict[str, Any]) -> nn.ModuleList:
    """Make the nets of all sources with weights of ours."""
    nets = nn.ModuleList(PlainCWS(4 * config["bands"], list(config["widths"])) for _ in config["sources"])
    nets.load_state_dict({n.removeprefix("nets."): value for n, value in state.items() if n.startswith("nets.")})
    return nets.eval()


def open_unmix(state: State, config: dict[str, Any]) -> Any:
    """Make the package's separator with weights of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import openunmix.model
    nets = {}
    for source in config["sources"]:
        nets[source] = openunmix.model.OpenUnmix(2049, 2, config["hidden"], config["layers"], max_bin=config["bins"])
        parts = {n.removeprefix(f"nets.{source}."): v for n, v in state.items() if n.startswith(f"nets.{source}.")}
        nets[source].load_state_dict(parts)
    separator = openunmix.model.Separator(nets, niter=config["wiener"], wiener_win_len=300)
    separator.freeze()
    return separator


def demucs(state: State, config: dict[str, Any]) -> Any:
    """Make the package's net of version 1 with weights of ours."""
    from benchmarks.demucs import package
    from separate.models.demucs import Demucs, DemucsConfig

    with torch.device("meta"):
        model = Demucs(DemucsConfig(**config))  # for its lengths
    return package(model, 10.0, state)


KINDS: dict[str, Callable[[State, dict[str, Any]], Any]] = {
    "d2-gru": d2gru,
    "mad": mad,
    "cws": cws,
    "open-unmix": open_unmix,
    "demucs": demucs,
}


def nets_of(kind: str, checkpoint: Path) -> tuple[Any, State, dict[str, Any]]:
    """Read a checkpoint of ours and make the peer's nets of it; the weights and settings as well."""
    with safe_open(checkpoint, "pt") as file:
        config = json.loads(file.metadata()["config"])
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    return KINDS[kind](state, config), state, config


def read(path: Path) -> Tensor:
    """Read a song: (channel, time)."""
    return torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0].T.copy())


def in_chunks(work: Callable[[Tensor], Tensor], mix: Tensor, segment: int, hop: int, batch: int) -> Tensor:
    """Separate chunk by chunk, some at once, and fade from one into the next: (channel, time) -> (source, ...)."""
    count = 1 + max(0, -(-(mix.shape[1] - segment) // hop))
    padded = F.pad(mix, (0, (count - 1) * hop + segment - mix.shape[1]))
    stems = torch.cat([work(some) for some in torch.split(padded.unfold(1, segment, hop).transpose(0, 1), batch)])
    window = torch.bartlett_window(segment + 2)[1:-1]
    out, weight = torch.zeros(stems.shape[1], *padded.shape), torch.zeros(padded.shape[1])
    for i, stem in enumerate(stems):
        out[..., i * hop : i * hop + segment] += stem * window
        weight[i * hop : i * hop + segment] += window
    return (out / weight)[..., : mix.shape[1]]


def stft_of(x: Tensor, n_fft: int, hop: int, window: Tensor) -> Tensor:
    """Transform waveforms with any axes before time."""
    spec = torch.stft(x.flatten(0, -2), n_fft, hop, window=window, return_complex=True)
    return torch.unflatten(spec, 0, x.shape[:-1])


def waves_of(spec: Tensor, n_fft: int, hop: int, window: Tensor, length: int) -> Tensor:
    """Transform back."""
    waves = torch.istft(spec.flatten(0, -3), n_fft, hop, window=window, length=length)
    return torch.unflatten(waves, 0, spec.shape[:-2])


def separate_d2gru(net: PlainD2GRU, mix: Tensor, config: dict[str, Any]) -> Tensor:
    """Separate in the chunks that ours are cut into, and as many at once."""
    import norbert

    n_fft, hop, window = config["n_fft"], config["hop"], torch.hann_window(config["n_fft"])

    def work(chunks: Tensor) -> Tensor:
        spec = stft_of(chunks, n_fft, hop, window)  # (batch, channel, bin, frame)
        y = net(spec.abs()).unflatten(0, spec.shape[:2]).unflatten(2, (len(config["sources"]), -1))
        stems = []
        for x, m in zip(spec, y, strict=True):  # m: (channel, source, bin, frame)
            v = m.permute(3, 2, 0, 1).numpy().astype(np.float64)
            filtered = norbert.wiener(v, x.permute(2, 1, 0).numpy().astype(np.complex128), config["wiener"])
            spectra = torch.from_numpy(filtered).to(torch.complex64).permute(3, 2, 1, 0)
            stems.append(waves_of(spectra, n_fft, hop, window, chunks.shape[2]))
        return torch.stack(stems)

    segment, context = (round(44100 * config[name]) for name in ("segment", "context"))
    return in_chunks(work, mix, segment, round(0.9 * (segment - 2 * context)), 16)


def separate_mad(net: PlainMaD, mix: Tensor, config: dict[str, Any]) -> Tensor:
    """Separate the whole song at once, with Griffin-Lim."""
    n_fft, hop, size, margin = (config[name] for name in ("n_fft", "hop", "sequence", "margin"))
    step, before = size - 2 * margin, (n_fft - config["window"]) // 2
    window = F.pad(torch.hamming_window(config["window"], periodic=False), (before, n_fft - config["window"] - before))
    window /= n_fft**0.5
    spec = stft_of(mix, n_fft, hop, window)
    m = spec.abs()  # (channel, bin, frame)
    frames = m.shape[2]
    padded = F.pad(m.transpose(1, 2), (0, 0, margin, margin + -frames % step))
    sequences = padded.unfold(1, size, step).transpose(2, 3)  # (channel, sequence, frame, bin)
    share = net(sequences.flatten(0, 1)).unflatten(0, sequences.shape[:2]).flatten(1, 2)[:, :frames]
    wanted, phase = share.transpose(1, 2) * m, torch.sgn(spec)
    for _ in range(config["griffin_lim"]):
        again = waves_of(wanted * phase, n_fft, hop, window, mix.shape[1])
        phase = torch.sgn(stft_of(again, n_fft, hop, window))
    voice = waves_of(wanted * phase, n_fft, hop, window, mix.shape[1])
    return torch.stack([voice, mix - voice])


def separate_cws(nets: nn.ModuleList, state: State, mix: Tensor, config: dict[str, Any]) -> Tensor:
    """Separate the whole song at once."""
    bands, hop, n_fft = config["bands"], config["hop"] // config["bands"], config["n_fft"] // config["bands"]
    window, taps = torch.hann_window(n_fft).sqrt(), state["bank.analysis"].shape[1]
    reach = taps - bands
    x = F.pad(mix, (reach, reach + -mix.shape[1] % bands)).unsqueeze(1)  # (channel, 1, time)
    subbands = F.conv1d(x, state["bank.analysis"].flip(1).unsqueeze(1) / bands, stride=bands)  # (channel, band, time)
    spec = stft_of(subbands, n_fft, hop, window)  # (channel, band, bin, frame)
    heard = torch.view_as_real(spec).movedim(-1, 2).flatten(0, 2).unsqueeze(0)  # (1, channel · band · 2, bin, frame)
    stems = []
    for net in nets:
        said = (net(heard * 0.8 / mix.abs().max()) * heard)[0].unflatten(0, (len(mix), bands, 2))
        cut = torch.complex(said[:, :, 0], said[:, :, 1])
        waves = waves_of(cut, n_fft, hop, window, subbands.shape[2])
        whole = F.conv_transpose1d(waves, state["bank.synthesis"].unsqueeze(1) * bands, stride=bands)
        stems.append(whole[:, 0, reach : reach + mix.shape[1]])
    return torch.stack(stems)


def separated(kind: str, checkpoint: Path, mix: Tensor) -> Tensor:
    """Separate a song as its kind does it: (channel, time) -> (source, channel, time)."""
    nets, state, config = nets_of(kind, checkpoint)
    if kind == "d2-gru":
        return separate_d2gru(nets, mix, config)
    if kind == "mad":
        return separate_mad(nets, mix, config)
    if kind == "cws":
        return separate_cws(nets, state, mix, config)
    if kind == "open-unmix":
        return Tensor(nets(mix[None])[0])
    from demucs.apply import apply_model

    return Tensor(apply_model(nets, mix[None], shifts=0, segment=10.0)[0])


def main() -> None:
    kind, checkpoint, song, out = sys.argv[1], *map(Path, sys.argv[2:])
    with torch.inference_mode():
        stems = separated(kind, checkpoint, read(song))
    out.mkdir(exist_ok=True)
    for i, stem in enumerate(stems):
        soundfile.write(out / f"{i}.wav", stem.clamp(-1, 1).T.numpy(), 44100, "PCM_16")


if __name__ == "__main__":
    main()
