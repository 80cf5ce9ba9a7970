"""Time RoFormers against the package BS-RoFormer on the same weights, side by side, and check that both say the same.

    pip install "separate-music" "BS-RoFormer==0.4.1"
    OMP_NUM_THREADS=2 python -m benchmarks.roformer [--model mel-band-roformer] [--seconds 8] [--turns 3] [--device cpu]

One chunk of music-like sound in stereo. Both take turns, and a ratio is the median over the turns of the package's time
divided by ours of the same turn, in the same precision. Weights are random. With one thread processor time is measured
instead of time. The difference is 10 log10(Σ (y − ŷ)² / Σ y²): in float32 to the package, in bfloat16 to float32.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.chunking import music
from separate.cli.process import tune
from separate.models.roformer import PRESETS, RoFormer, RoFormerConfig

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import bs_roformer  # type: ignore[import-not-found]


def package(model: RoFormer) -> Any:
    """Make the package's model with the weights of ours."""
    config = model.config
    settings: dict[str, Any] = {
        "dim": config.width,
        "depth": config.depth,
        "heads": config.heads,
        "dim_head": config.head_width,
        "stereo": config.stereo,
        "num_stems": len(model.mask_estimators),
        "time_transformer_depth": config.time_layers,
        "freq_transformer_depth": config.band_layers,
        "stft_n_fft": config.n_fft,
        "stft_hop_length": config.hop,
    }
    if config.mel:
        settings |= {"linear_transformer_depth": config.linear_layers, "num_bands": config.mel}
        theirs = bs_roformer.MelBandRoformer(**settings, mask_estimator_depth=config.mask_layers)
    else:
        settings["freqs_per_bands"] = config.bands
        theirs = bs_roformer.BSRoformer(**settings, mask_estimator_depth=config.mask_layers + 1)
    state = {name: value for name, value in theirs.state_dict().items() if "rotary" in name}
    for name, value in model.state_dict().items():
        # A place that is empty without linear attention is counted all the same.
        shift = bool(config.mel) and not config.linear_layers
        state[re.sub(r"^(layers\.\d+\.)(\d)", lambda found: f"{found[1]}{int(found[2]) + shift}", name)] = value  # noqa: B023
    theirs.load_state_dict(state)
    return theirs.eval()


def seconds(run: Callable[[], object], device: str) -> float:
    """Time a call."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def within(how: AbstractContextManager[Any], model: Any, mix: Tensor) -> Tensor:
    """Run a model in a precision: the stems that have masks, (batch, source, channel, time)."""
    with how:
        stems: Tensor = model(mix)
    return stems.unsqueeze(1) if stems.ndim == 3 else stems


def decibels(reference: Tensor, other: Tensor) -> float:
    return float(10 * torch.log10((reference - other).square().sum() / reference.square().sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mel-band-roformer", choices=sorted(set(PRESETS) - {"bs-roformer-four"}))
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    tune()  # helps both
    torch.manual_seed(0)
    config = RoFormerConfig(**PRESETS[options.model] | {"sources": ("vocals",), "rest": False})
    ours = RoFormer(config).eval()
    models = {"package": package(ours).to(options.device), "ours": ours.to(options.device)}
    length = round(options.seconds * 44100) // config.hop * config.hop  # the package loses what is over
    mix = music(length / 44100, 44100)[None, :, :length].to(options.device)
    half = torch.autocast(torch.device(options.device).type, torch.bfloat16)
    precisions: dict[str, AbstractContextManager[Any]] = {"float32": nullcontext(), "bfloat16": half}
    print(f"{options.model}, {options.seconds:g} s of stereo, {torch.get_num_threads()} threads on {options.device}\n")
    print(f"{'':<20}{'median s':>10}{'x real time':>13}{'ratio':>8}{'difference dB':>15}{'largest':>10}")
    with torch.inference_mode():
        full = {name: within(nullcontext(), model, mix) for name, model in models.items()}
        for precision, how in precisions.items():
            runs = {name: partial(within, how, model, mix) for name, model in models.items()}
            reference = full["package"] if precision == "float32" else full["ours"]
            said = {name: run() for name, run in runs.items()}
            times = [{name: seconds(run, options.device) for name, run in runs.items()} for _ in range(options.turns)]
            for name in runs:
                median = statistics.median(turn[name] for turn in times)
                ratio = statistics.median(turn["package"] / turn[name] for turn in times)
                row = f"{name + ', ' + precision:<20}{median:>10.2f}{length / 44100 / median:>13.2f}{ratio:>7.2f}x"
                largest = float((said[name] - reference).abs().max())
                print(f"{row}{decibels(reference, said[name]):>15.1f}{largest:>10.1e}", flush=True)


if __name__ == "__main__":
    main()
