"""How time and memory grow with a song's length and channels, with stems and with the model's size.

    python -m benchmarks.growth [--only length] [--hours 10] [--runs 3]

Whole commands in processes of their own: seconds on the clock, seconds of all processors, which other work on the
machine disturbs less, and the peak of resident memory as the system reports it; medians, but of long songs once.
A line is fitted to each, and docs/growth.svg drawn. Up to half an hour is separated by the bundled model, and up to
`--hours` by a tiny one of random weights; the longest song takes 13 GB on the disk.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import Cost, command
from separate.audio.wav import WavFile

RATE = 44100
WIDTH, HEIGHT, COLUMNS = 290, 110, ("processor", "memory")  # of a panel of the plot
PLOT = Path(__file__).parents[1] / "docs" / "growth.svg"
TINY = {"sources": ("vocals", "other"), "width": 16, "groups": 4, "bands": 32, "output": "mask", "wiener": 0}
WIDTHS = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Run:
    """A command to be measured: which line it belongs to, what is varied in it, and its song."""

    line: str
    x: float
    seconds: float
    channels: int = 2
    model: str = "d2-gru"
    options: tuple[str, ...] = ()


def runs(folder: Path, hours: float) -> Iterator[Run]:
    """List what is measured; x is in minutes, channels, stems, or millions of weights."""
    few = ("--stems", "vocals", "--clip", "hard")
    for minutes in (1 / 6, 1, 3, 10, 30):
        yield Run("length", minutes, 60 * minutes)
    for minutes in (1 / 6, 1, 10, 60, 180, 600):
        if minutes <= 60 * hours:
            yield Run("length, tiny model", minutes, 60 * minutes, model=made(folder, "tiny", TINY)[0], options=few)
    for channels in (1, 2, 4, 6, 8):
        yield Run("channels", channels, 30, channels)
    for count in (1, 2, 3, 4):
        yield Run("stems", count, 60, options=("--stems", ",".join(("vocals", "drums", "bass", "other")[:count])))
    for width in WIDTHS:
        path, weights = made(folder, str(width), {"width": width, "bins": 1024, "groups": 8})
        yield Run("weights", weights / 1e6, 30, model=path)


def made(folder: Path, name: str, config: dict[str, Any]) -> tuple[str, int]:
    """Write a D2-GRU of random weights, if it is not there, and count them."""
    import torch

    from separate.checkpoints.weights import save
    from separate.models import build

    path = folder / f"{name}.safetensors"
    torch.manual_seed(0)
    model = build("d2-gru", config)
    if not path.exists():
        save(path, model, architecture="d2-gru", licence="MIT", training={})
    return str(path), sum(weight.numel() for weight in model.parameters())


def synthesise(path: Path, seconds: float, channels: int) -> None:
    """Write notes and hiss; half a minute that repeats itself."""
    rng, clock = np.random.default_rng(0), np.arange(30 * RATE) / RATE
    notes = rng.choice([110.0, 164.8, 220.0, 329.6, 440.0], (channels, 1))
    block = (0.2 * np.sin(2 * np.pi * notes * clock) + 0.05 * rng.standard_normal((channels, 30 * RATE))).astype("f4")
    with path.open("wb") as file:
        wav = WavFile(file, rate=RATE, channels=channels, bits=16)
        left = round(seconds * RATE)
        while left > 0:
            wav.write(block[:, :left])
            left -= block.shape[1]
        wav.close()


def measure(run: Run, song: Path, out: Path) -> Cost:
    """Run a command once."""
    words = ["-m", "separate", str(song), "-m", run.model, "-o", str(out), "-q", "--force", *run.options]
    return command(words)


def cost(run: Run, times: int) -> Cost:
    """Run a command some times and take medians."""
    with tempfile.TemporaryDirectory() as name:
        song = Path(name, "song.wav")
        synthesise(song, run.seconds, run.channels)
        costs = [measure(run, song, Path(name, "out")) for _ in range(1 if run.seconds > 200 else times)]
    columns = zip(*((each.wall, each.processor, each.memory) for each in costs), strict=True)
    return Cost(*map(statistics.median, columns))


def fitted(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Fit y = a + b x, with as much weight on a tenth of an error of small y as of large."""
    x, y = np.array(points).T
    weight = 1 / y
    solution = np.linalg.lstsq(np.stack([weight, x * weight], 1), y * weight, rcond=None)[0]
    return float(solution[0]), float(solution[1])


def draw(lines: dict[str, list[tuple[float, Cost]]]) -> str:
    """Draw a row a line: the processors' seconds on the left, memory on the right."""
    parts: list[str] = []
    for row, (name, points) in enumerate(lines.items()):
        top = 24 + row * (HEIGHT + 52)
        seconds, megabytes = ([(x, float(getattr(each, what))) for x, each in points] for what in COLUMNS)
        parts += panel(50, top, f"{name}: processors", "s", seconds)
        parts += panel(120 + WIDTH, top, f"{name}: memory", "MB", megabytes)
    body = "\n".join(parts)
    size = f'viewBox="0 0 {2 * WIDTH + 140} {30 + len(lines) * (HEIGHT + 52)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="10">\n{body}\n</svg>\n'


def panel(left: float, top: float, title: str, unit: str, points: list[tuple[float, float]]) -> Iterator[str]:
    """Draw points and the line fitted to them, both axes logarithmic."""
    a, b = fitted(points)
    x0, x1 = (math.log10(ends(x for x, _ in points)) for ends in (min, max))
    y0, y1 = math.floor(math.log10(min(y for _, y in points))), math.ceil(math.log10(max(y for _, y in points)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x0) / max(x1 - x0, 1e-9)
        return left + WIDTH * across, top + HEIGHT * (y1 - math.log10(max(y, 10**y0))) / max(y1 - y0, 1)

    yield f'<text x="{left}" y="{top - 8}">{title}, {a:.3g} {unit} + {b:.3g} {unit} · x</text>'
    for power in range(y0, y1 + 1):
        y = place(10**x0, 10**power)[1]
        yield f'<path d="M{left} {y:g}h{WIDTH}" stroke="#ccc"/>'
        yield f'<text x="{left - 4}" y="{y + 4:g}" text-anchor="end">{10**power:g} {unit}</text>'
    curve = (place(x, a + b * x) for x in np.logspace(x0, x1, 60).tolist())
    yield f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in curve)}" fill="none" stroke="#46c"/>'
    for x, y in points:
        across, down = place(x, y)
        yield f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="#c33"/>'
        yield f'<text x="{across:.1f}" y="{top + HEIGHT + 14}" text-anchor="middle">{x:.3g}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="LINE")
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    lines: dict[str, list[tuple[float, Cost]]] = {}
    print(f"{'':20}{'x':>9}{'clock s':>10}{'processors s':>14}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as name:
        for run in runs(Path(name), options.hours):
            if options.only and run.line not in options.only:
                continue
            took = cost(run, options.runs)
            lines.setdefault(run.line, []).append((run.x, took))
            print(f"{run.line:20}{run.x:9.3g}{took.wall:10.1f}{took.processor:14.1f}{took.memory:9.0f}", flush=True)
    for name, points in lines.items():
        (a, b), (c, d) = (fitted([(x, getattr(each, what)) for x, each in points]) for what in COLUMNS)
        print(f"{name}: {a:.3g} s + {b:.3g} s · x of all processors, {c:.4g} MB + {d:.3g} MB · x")
    if not options.only:
        PLOT.write_text(draw(lines))


if __name__ == "__main__":
    main()
