"""Time BSS Eval v4 against museval, side by side, and check that both agree; or measure the memory of a long track.

    pip install "separate-music[test]"
    OMP_NUM_THREADS=2 python -m benchmarks.bsseval
    OMP_NUM_THREADS=2 python -m benchmarks.bsseval --memory files --minutes 10

Stereo sources at 44.1 kHz, frames of a second, filters of 512 taps. Both programs take turns, each with its input in
the layout of its choice, and the ratio is the median over the turns of museval's time divided by ours in the same turn.
Processor seconds of all threads are counted too: unlike seconds, they change little with other work on the machine.

For memory there are 5 sources; either a file is read bit by bit, by `bss_eval_from`, or all are tensors in memory, by
`bss_eval`. The peak is the process's own, as the operating system counts it, with Python and torch.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from separate.metrics.bsseval import Frames, bss_eval, bss_eval_from
from tests.metrics.peers import museval, worst

RATE = 44100


def make_input(sources: int, seconds: float) -> tuple[Tensor, Tensor]:
    """Pan noises that rise and fall, and estimate them with leaks and hiss."""
    torch.manual_seed(0)
    length = int(RATE * seconds)
    beats = 1 + torch.sin(torch.arange(length) * torch.arange(1, sources + 1)[:, None] / 5000)
    places = torch.rand(sources, 2, 1)
    references = 0.1 * places * (beats * torch.randn(sources, length))[:, None] + 0.01 * torch.randn(sources, 2, length)
    return references, 0.9 * references + 0.05 * references.sum(0) + 0.01 * torch.randn(sources, 2, length)


def timed(measure: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
    """Return what is measured, the seconds, and the processor seconds that it took."""
    start, busy = time.perf_counter(), time.process_time()
    figures = measure()
    return figures, time.perf_counter() - start, time.process_time() - busy


def stacked(frames: Frames) -> Tensor:
    return torch.stack([frames.sdr, frames.isr, frames.sir, frames.sar])


def compare(sources: int, seconds: float, turns: int) -> None:
    references, estimates = make_input(sources, seconds)
    programs: dict[str, Callable[[], Tensor]] = {
        "separate": lambda: stacked(bss_eval(references, estimates)),
        "museval": lambda: museval(references, estimates, RATE, RATE, 512),
    }
    runs = [{name: timed(measure) for name, measure in programs.items()} for _ in range(turns)]
    print(f"{sources} stereo sources of {seconds:g} s, {turns} turns, {torch.get_num_threads()} threads\n")
    print(f"{'program':<12}{'median s':>10}{'fastest s':>11}{'processor s':>13}{'ratio':>8}{'max dB':>10}")
    for name in programs:
        times, busy = zip(*(run[name][1:] for run in runs), strict=True)
        ratio = statistics.median(run[name][1] / run["separate"][1] for run in runs)
        difference = worst(runs[0]["separate"][0], runs[0][name][0])
        print(
            f"{name:<12}{statistics.median(times):>10.2f}{min(times):>11.2f}{statistics.median(busy):>13.2f}"
            f"{ratio:>7.1f}x{difference:>10.1e}"
        )


def synthesise(path: Path, sources: int, minutes: float) -> None:
    """Write references and estimates as the channels of one file, a second at a time."""
    with soundfile.SoundFile(path, "w", RATE, 4 * sources, "PCM_16", format="RF64") as file:
        rng = np.random.default_rng(0)
        for _ in range(round(60 * minutes)):
            references = 0.1 * rng.standard_normal((RATE, 2 * sources), dtype=np.float32)
            hiss = 0.01 * rng.standard_normal((RATE, 2 * sources), dtype=np.float32)
            file.write(np.hstack([references, 0.9 * references + 0.1 * np.roll(references, 2, axis=1) + hiss]))


def memory(how: str, sources: int, minutes: float) -> None:
    print(f"{peak():6.0f} MB at the start")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "track.wav")
        synthesise(path, sources, minutes)
        print(f"{peak():6.0f} MB after the file was written")
        start = time.perf_counter()
        with soundfile.SoundFile(path) as file:

            def read(start: int, stop: int) -> tuple[Tensor, Tensor]:
                file.seek(start)
                samples = torch.from_numpy(file.read(stop - start, dtype="float32")).T
                references, estimates = samples.reshape(2, sources, 2, -1)
                return references, estimates

            if how == "files":
                bss_eval_from(read, file.frames)
            else:
                both = torch.empty(2, sources, 2, file.frames)
                for second in range(0, file.frames, RATE):
                    both[..., second : second + RATE] = torch.stack(read(second, second + RATE))
                print(f"{peak():6.0f} MB with all samples in memory, which are {both.nbytes / 1e6:.0f} MB")
                bss_eval(both[0], both[1])
    print(f"{peak():6.0f} MB at most, for {sources} stereo sources of {minutes:g} minutes from {how}")
    print(f"{time.perf_counter() - start:6.1f} s")


def peak() -> float:
    """Ask for the largest resident memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--sources", type=int, help="4 for time, 5 for memory")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--memory", choices=["files", "tensors"])
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    if options.memory:
        memory(options.memory, options.sources or 5, options.minutes)
    else:
        compare(options.sources or 4, options.seconds, options.turns)


if __name__ == "__main__":
    main()
