"""Find the filter banks of separate/dsp/filterbank.py: their angles, their figures, and the plot of the docs.

    python benchmarks/design_filterbank.py                       # figures and docs/filterbank.svg
    python benchmarks/design_filterbank.py --search 300 --bands 8   # look for better angles for so many seconds

Every choice of angles gives back the song, so the search only asks for little in the stop band, which begins at π/K, in
the middle of the next band: it minimises the level of the prototype there, first its energy, then ever nearer its
maximum, by L-BFGS in float64. It starts from the sine window, padded to 64 taps, with noise on its angles.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor

from separate.dsp.filterbank import ANGLES, FilterBank, filters, prototype

TAPS = 64
PLOT = Path(__file__).parent.parent / "docs" / "filterbank.svg"


def sine_window(bands: int) -> Tensor:
    """Give the angles of a sine window of 2 · bands taps in the middle of zeros: (band/2, stage)."""
    stages = TAPS // (2 * bands)
    angles = torch.full((bands // 2, stages), math.pi / 2, dtype=torch.float64)  # a quarter turn: a and b change places
    rising = math.pi / (2 * bands) * (torch.arange(bands // 2) + 0.5)
    angles[:, 0] += rising
    return angles


def stop_band(angles: Tensor, points: int) -> Tensor:
    """Measure the prototype's power beyond π/K, relative to that at zero, at `points` frequencies up to π."""
    power: Tensor = torch.fft.rfft(prototype(angles), 2 * points).abs().square()
    return power[math.ceil(points / (2 * angles.shape[0])) :] / power[0]


def attenuation(angles: Tensor) -> float:
    """Say how far below the pass band the stop band stays, in dB."""
    return -10 * math.log10(float(stop_band(angles, 16384).max()))


def refine(angles: Tensor, exponents: list[int], steps: int) -> Tensor:
    """Lower the stop band: its mean for an exponent of 1, nearly its maximum for a large one."""
    angles = angles.clone().requires_grad_()
    for exponent in exponents:
        optimiser = torch.optim.LBFGS([angles], max_iter=steps, history_size=40, line_search_fn="strong_wolfe")

        def loss(exponent: int = exponent, optimiser: torch.optim.Optimizer = optimiser) -> Tensor:
            optimiser.zero_grad()
            power = stop_band(angles, 1024)
            top = power.detach().max()
            value = top.log() + (power / top).pow(exponent).mean().log() / exponent
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimiser.step(loss)  # type: ignore[no-untyped-call]
    return angles.detach()


def search(bands: int, seconds: float) -> None:
    """Refine one noisy sine window after the other and print the angles of each new best."""
    best, seed, until = 0.0, 0, time.monotonic() + seconds
    while time.monotonic() < until:
        noise = torch.randn(bands // 2, TAPS // (2 * bands), generator=torch.Generator().manual_seed(seed)).double()
        angles = refine(sine_window(bands) + 0.06 * (seed % 8) * noise, [1, 4], 120)
        if attenuation(angles) > best - 3:
            angles = refine(angles, [4, 16], 300)
        if attenuation(angles) > best:
            best = attenuation(angles)
            print(f"seed {seed}: {best:.1f} dB", [[round(a, 6) for a in row] for row in angles.tolist()], flush=True)
        seed += 1


def reconstruction_error(bands: int) -> float:
    """Compare noise with what comes back of it, in dB, in float64."""
    bank = FilterBank(bands).double()
    audio = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).double()
    return 20 * math.log10(float((bank.inverse(bank(audio), 100_000) - audio).norm() / audio.norm()))


def draw() -> str:
    """Draw the frequency responses of all banks as one SVG."""
    width, height, points = 640, 150, 320
    parts = []
    for row, (bands, angles) in enumerate(ANGLES.items()):
        top = 20 + row * (height + 40)
        parts.append(f'<text x="40" y="{top - 6}">K = {bands}</text>')
        for level in range(0, 101, 20):
            y = top + height * level / 100
            parts.append(f'<path d="M40 {y:g}h{width}" stroke="#ccc"/><text x="2" y="{y + 4:g}">{-level} dB</text>')
        response = torch.fft.rfft(filters(torch.tensor(angles)).double(), 2 * points).abs() / math.sqrt(bands)
        for k, band in enumerate(20 * response.clamp_min(1e-5).log10()):
            line = " ".join(f"{40 + width * i / points:g},{top - height * v / 100:.1f}" for i, v in enumerate(band))
            parts.append(f'<polyline points="{line}" fill="none" stroke="hsl({360 * k // bands} 70% 45%)"/>')
    body = "\n".join(parts)
    size = f'viewBox="0 0 {width + 60} {20 + len(ANGLES) * (height + 40)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="10">\n{body}\n</svg>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--search", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--bands", type=int, default=8)
    options = parser.parse_args()
    if options.search:
        torch.set_num_threads(1)
        search(options.bands, options.search)
        return
    print(f"{'bands':>5}{'stop band':>12}{'error':>12}")
    for bands, angles in ANGLES.items():
        print(f"{bands:>5}{-attenuation(torch.tensor(angles).double()):>9.1f} dB{reconstruction_error(bands):>9.0f} dB")
    PLOT.write_text(draw())


if __name__ == "__main__":
    main()
