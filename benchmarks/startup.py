"""How long the command takes before there is anything to separate, and for ten seconds of song.

    python -m benchmarks.startup [CHECKPOINT] [--runs 7]

Whole processes, medians over several runs; CPU seconds are user and system time, which other work on the machine
disturbs less than the wall clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.memory import synthesise


def run(command: list[str]) -> tuple[float, float]:
    """Run a command; return its wall and its CPU seconds."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="d2-gru")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder, "song.wav")
        synthesise(song, 1 / 6)
        separate = [sys.executable, "-m", "separate"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import torch'": [sys.executable, "-c", "import torch"],
            "separate --help": [*separate, "--help"],
            "separate models": [*separate, "models"],
            "separate 10-s-song.wav": [
                *separate,
                str(song),
                "-m",
                options.model,
                "-o",
                f"{folder}/out",
                "--force",
                "-q",
            ],
        }
        print(f"{'':26} {'wall s':>8} {'CPU s':>8}")
        for name, command in commands.items():
            run(command)  # once for the disk's cache
            walls, cpus = zip(*(run(command) for _ in range(options.runs)), strict=True)
            print(f"{name:26} {statistics.median(walls):8.2f} {statistics.median(cpus):8.2f}", flush=True)


if __name__ == "__main__":
    main()
