"""Time the multichannel Wiener filter against norbert and openunmix, side by side, and check that all three agree.

    pip install "separate-music[bench]"
    OMP_NUM_THREADS=2 python benchmarks/wiener.py

A stereo mixture of four sources at 44.1 kHz, n_fft 4096, hop 1024, complex64, one iteration. The three filters take
turns, and each ratio is the median over the turns of a peer's time divided by ours in the same turn. Every filter gets
its input in the layout of its own choice, made before the clock starts. Agreement is measured on an excerpt in float64.

Run it on an idle machine: other work takes the second core first from those who use it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import norbert
import openunmix.filtering
import torch
from torch import Tensor

from separate.dsp.stft import STFT
from separate.dsp.wiener import wiener

Filter = Callable[[Tensor, Tensor], Tensor]


# Each filter gets its input in the layout that it likes best.


def ours(mixture: Tensor, magnitudes: Tensor) -> Callable[[], Tensor]:
    x, m = mixture.contiguous(), magnitudes.contiguous()
    return lambda: wiener(x, m, iterations=1)


def norberts(mixture: Tensor, magnitudes: Tensor) -> Callable[[], Tensor]:
    x = (
        mixture.permute(2, 1, 0).contiguous().numpy()
    )  # It divides x by its scale in place: harmless when it is repeated.
    v = magnitudes.permute(3, 2, 1, 0).contiguous().numpy()
    return lambda: torch.from_numpy(norbert.wiener(v, x, 1, use_softmask=False, eps=1e-10)).permute(3, 2, 1, 0)


def openunmixs(mixture: Tensor, magnitudes: Tensor) -> Callable[[], Tensor]:
    x = torch.view_as_real(mixture.permute(2, 1, 0).contiguous())
    v = magnitudes.permute(3, 2, 1, 0).contiguous()
    return lambda: torch.view_as_complex(openunmix.filtering.wiener(v, x, 1).transpose(-1, -2).contiguous()).permute(
        3, 2, 1, 0
    )


FILTERS = {"separate": ours, "norbert": norberts, "openunmix": openunmixs}


def make_input(seconds: float) -> tuple[Tensor, Tensor]:
    """Mix four panned noises that rise and fall, and blur their magnitudes as a model would."""
    torch.manual_seed(0)
    length = int(44100 * seconds)
    beats = 1 + torch.sin(torch.arange(length) * torch.tensor([1.0, 1.7, 2.3, 3.1])[:, None] / 5000)
    places = torch.tensor([[0.7, 0.7], [0.9, 0.4], [0.7, 0.6], [0.3, 0.95]])
    stft = STFT()
    sources = stft(0.1 * places[:, :, None] * (beats * torch.randn(4, length))[:, None])
    sources = sources + 0.1 * stft(0.1 * torch.randn(4, 2, length))  # Reverberation: no source sits at one point.
    return sources.sum(0), sources.abs() * torch.exp(0.3 * torch.randn(sources.shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    mixture, magnitudes = make_input(options.seconds)

    excerpt = mixture[..., :100].to(torch.complex128), magnitudes[..., :100].double()
    estimates = {name: make(*excerpt)() for name, make in FILTERS.items()}
    errors = {name: (y - estimates["separate"]).norm() / y.norm() for name, y in estimates.items()}

    runs = {name: make(mixture, magnitudes) for name, make in FILTERS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.turns):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)

    print(f"{options.seconds:g} s of stereo, 4 sources, 1 iteration")
    print(f"{torch.get_num_threads()} threads, {options.turns} turns\n")
    print(f"{'filter':<12}{'median s':>10}{'fastest s':>11}{'ratio':>8}{'error':>10}")
    for name, times in seconds.items():
        ratio = statistics.median(t / own for t, own in zip(times, seconds["separate"], strict=True))
        print(f"{name:<12}{statistics.median(times):>10.2f}{min(times):>11.2f}{ratio:>7.1f}x{errors[name]:>10.1e}")


if __name__ == "__main__":
    main()
