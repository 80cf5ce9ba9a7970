"""Peak memory of the whole command against the length of the song: it must not grow.

    python -m benchmarks.memory [CHECKPOINT] [--minutes 10 180] [--format wav]

Each length is a synthetic stereo file at 44.1 kHz, separated into all stems by the installed command in a process of
its own, whose peak resident memory the operating system reports. The files need disk: about 130 MB a minute.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.processes import command

RATE = 44100


def synthesise(path: Path, minutes: float) -> None:
    """Write notes and hiss, different in every second."""
    rng = np.random.default_rng(0)
    time_ = np.arange(RATE) / RATE
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for _ in range(round(minutes * 60)):
            notes = rng.choice([110.0, 164.8, 220.0, 329.6, 440.0], (2, 1))
            block = 0.2 * np.sin(2 * np.pi * notes * time_) + 0.05 * rng.standard_normal((2, RATE))
            file.write(block.T)


def measure(song: Path, out: Path, model: str, more: list[str]) -> tuple[float, float]:
    """Run the command; return its peak resident memory in MB and its wall time in seconds."""
    run = command(["-m", "separate", str(song), "-m", model, "-o", str(out), "-q", *more])
    return run.memory, run.wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="d2-gru")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 180])
    parser.add_argument("--format", default="wav")
    options = parser.parse_args()
    print(f"{'minutes':>8} {'peak MB':>9} {'against first':>14} {'seconds':>9} {'x real time':>12}")
    first = 0.0
    for minutes in options.minutes:
        with tempfile.TemporaryDirectory() as folder:
            song = Path(folder, "song.wav")
            synthesise(song, minutes)
            peak, seconds = measure(song, Path(folder, "out"), options.model, ["--format", options.format])
        first = first or peak
        print(
            f"{minutes:8g} {peak:9.0f} {peak / first:14.3f} {seconds:9.1f} {minutes * 60 / seconds:12.1f}", flush=True
        )


if __name__ == "__main__":
    main()
