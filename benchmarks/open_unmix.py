"""Time Open-Unmix against its package on the same weights, side by side, and check that both say the same.

    pip install "separate-music[bench]"
    OMP_NUM_THREADS=2 python -m benchmarks.open_unmix [--model umxhq] [--seconds 120] [--turns 3]

Music-like sound in stereo, with one Wiener iteration and without (then both take ratio masks). The package separates
the whole of it at once, filtering by blocks of 300 frames, as it does by default. Ours runs as the command runs it: in
chunks, a few at a time. Both take turns, and a ratio is the median over the turns of the package's time divided by ours
of the same turn. Weights are random, scales and statistics those of the sound, as training would leave them.

The difference is 10 log10(Σ (y − ŷ)² / Σ y²): in float32 to the package with one block for everything, whole; in
bfloat16 to ours in float32. What the package's sources leave of the mixture is shared out first, as ours is. With one
thread processor time is measured instead of time.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.chunking import music
from separate.cli.process import tune
from separate.models.open_unmix import PRESETS, OpenUnmix, OpenUnmixConfig
from separate.separator import ArraySong, Separator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openunmix.model


def settled(config: OpenUnmixConfig, mix: Tensor) -> OpenUnmix:
    """Make a model whose scales and statistics are those of a mix, with masks around one half."""
    model = OpenUnmix(config)
    m = model.stft(mix).abs()
    nets: Any = model.nets.values()
    with torch.no_grad():
        for net in nets:
            heard = m[:, :, : net.bins]
            net.input_mean.copy_(-heard.mean((0, 1, 3)))
            net.input_scale.copy_(1 / heard.std((0, 1, 3)).clamp(min=1e-3))
            net.output_mean.fill_(0.5)
            net.output_scale.fill_(0.25)
            net.bn1.momentum = net.bn2.momentum = net.bn3.momentum = None
        model.train().estimate(m)
    return model.eval()


def package(model: OpenUnmix, block: int | None) -> Any:
    """Make the package's separator with the weights of `model`, filtering so many frames at once."""
    config = model.config
    nets = {}
    for source, net in model.nets.items():
        nets[source] = openunmix.model.OpenUnmix(
            nb_bins=config.n_fft // 2 + 1, hidden_size=config.hidden, nb_layers=config.layers, max_bin=config.bins
        )
        nets[source].load_state_dict(net.state_dict())
    separator = openunmix.model.Separator(
        nets, niter=config.wiener, softmask=not config.wiener, wiener_win_len=block, n_fft=config.n_fft
    )
    separator.freeze()
    return separator


def seconds(run: Callable[[], object]) -> float:
    """Time a call."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def decibels(reference: Tensor, other: Tensor) -> float:
    return float(10 * torch.log10((reference - other).square().sum() / reference.square().sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="umxhq", choices=sorted(PRESETS))
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    tune()  # helps both
    torch.manual_seed(0)
    mix = music(options.seconds, 44100)
    song = ArraySong(mix.numpy(), 44100)
    print(
        f"{options.model}, {options.seconds:g} s of stereo, {torch.get_num_threads()} threads, {options.turns} turns\n"
    )
    print(f"{'':<28}{'median s':>10}{'x real time':>13}{'ratio':>8}{'difference dB':>15}")
    for iterations in (1, 0):
        model = settled(OpenUnmixConfig(**PRESETS[options.model], wiener=iterations), mix[None])
        runs: dict[str, Callable[[], object]] = {}
        with torch.inference_mode():
            runs["package"] = partial(package(model, 300), mix[None])
            for precision in ("float32", "bfloat16"):
                runs[precision] = partial(Separator(model, device="cpu", precision=precision).separate, song)
            whole = model(mix[None])
            expected = package(model, None)(mix[None])
            expected += (mix - expected.sum(1, keepdim=True)) / len(model.sources)
            differences = {"float32": decibels(expected, whole)}
            with torch.autocast("cpu", torch.bfloat16):
                differences["bfloat16"] = decibels(whole, model(mix[None]))
            del whole, expected
            times = [{name: seconds(run) for name, run in runs.items()} for _ in range(options.turns)]
        for name in runs:
            median = statistics.median(turn[name] for turn in times)
            ratio = statistics.median(turn["package"] / turn[name] for turn in times)
            label = f"{name}, {'one Wiener iteration' if iterations else 'ratio masks'}"
            difference = f"{differences[name]:15.1f}" if name in differences else ""
            print(f"{label:<32}{median:>6.2f}{options.seconds / median:>13.1f}{ratio:>7.2f}x{difference}", flush=True)


if __name__ == "__main__":
    main()
