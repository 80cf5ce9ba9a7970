"""Time Demucs against its authors' package on the same random weights, and compare what they say.

    pip install "separate-music[test]"
    OMP_NUM_THREADS=2 python -m benchmarks.demucs [--channels 64] [--chunks 4] [--seconds 10] [--turns 3]

First the nets alone, with one batch of chunks: there the difference counts too, 20 log10(‖ours − theirs‖ / ‖theirs‖) of
the worst stem. Then a song of as many chunks, from samples to stems, each program with its own way of cutting it up
and its own defaults: `apply_model`, one chunk after the other, and `Separator`. All take turns, and each ratio is the
median over the turns of the package's time divided by ours in the same turn. Run it on an idle machine; with
`--threads 1` processor time is measured instead of time, and other programs on the machine count for little.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.chunking import music
from separate.cli.process import tune
from separate.models.demucs import Demucs, DemucsConfig
from separate.separator import ArraySong, Separator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from demucs.apply import apply_model
    from demucs.demucs import Demucs as Package

PRECISIONS = ("float32", "bfloat16")


def package(model: Demucs, segment: float, state: dict[str, Tensor] | None = None) -> Any:
    """Make the authors' code with our weights, or those of `state`, and with the settings of version 1."""
    config = model.config
    theirs = Package(
        list(config.sources),
        channels=config.channels,
        lstm_layers=config.lstm_layers,
        gelu=False,
        norm_starts=config.depth,
        dconv_mode=0,
        resample=False,
        segment=segment,
    )
    theirs.load_state_dict(state or model.state_dict())
    for layer in theirs.decoder:
        layer[0].padding = (0,)
    theirs.valid_length = model.valid_length
    return theirs.eval()


def take_turns(runs: dict[str, Callable[[], Any]], turns: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Time every run once a turn, after one turn to warm up: seconds of each, and its last result."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in runs}
    results = {name: run() for name, run in runs.items()}
    for _ in range(turns):
        for name, run in runs.items():
            start = clock()
            results[name] = run()
            times[name].append(clock() - start)
    return times, results


def report(times: dict[str, list[float]], seconds: float, differences: dict[str, float]) -> None:
    """Print a row for each: the package comes first."""
    reference = next(iter(times.values()))
    for name, each in times.items():
        ratio = statistics.median(theirs / ours for theirs, ours in zip(reference, each, strict=True))
        difference = f"{differences[name]:8.1f} dB" if name in differences else ""
        took = statistics.median(each)
        print(f"{name:24} {took:8.2f} s {seconds / took:8.2f} x real time   x{ratio:.2f}  {difference}", flush=True)


def worst(reference: Tensor, estimate: Tensor) -> float:
    """Compare stems (batch, source, channel, time): dB of the worst source's difference."""
    error = (estimate - reference).square().sum((0, 2, 3)) / reference.square().sum((0, 2, 3))
    return 10 * math.log10(max(float(error.max()), 1e-30))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a chunk")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    tune()  # helps both
    model = Demucs(DemucsConfig(channels=options.channels)).eval()
    theirs = package(model, options.seconds)
    # A length that needs the least padding, which both then divide alike.
    length = model.valid_length(round(options.seconds * model.sample_rate)) - 2 * model.before
    total = options.chunks * length / model.sample_rate
    song = music(total, model.sample_rate)[:, : options.chunks * length]  # (channel, time)
    chunks = song.view(len(song), options.chunks, -1).transpose(0, 1).contiguous()

    def net(precision: str) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                stems: Tensor = model(chunks)
                return stems

        return run

    def separator(precision: str) -> Callable[[], Any]:
        whole = Separator(model, device="cpu", precision=precision)
        return lambda: whole.separate(ArraySong(song.numpy(), model.sample_rate))

    print(f"{options.channels} channels, {options.threads} threads, {options.turns} turns; ratios to the first line")
    with torch.inference_mode():
        print(f"\nThe net, {options.chunks} chunks of {options.seconds:g} s as one batch")
        runs = {"package": lambda: theirs(chunks)} | {f"separate {name}": net(name) for name in PRECISIONS}
        times, stems = take_turns(runs, options.turns)
        report(times, total, {name: worst(stems["package"], stems[name]) for name in list(runs)[1:]})
        print(f"\nA song of {total:.0f} s")
        whole: dict[str, Callable[[], Any]] = {
            "package, apply_model": lambda: apply_model(theirs, song[None], shifts=0, segment=options.seconds)
        }
        times, _ = take_turns(whole | {f"separate {name}": separator(name) for name in PRECISIONS}, options.turns)
        report(times, total, {})


if __name__ == "__main__":
    main()
