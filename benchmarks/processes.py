"""What a Python program takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import NamedTuple

__all__ = ["Cost", "command"]


class Cost(NamedTuple):
    """What something took."""

    wall: float  # seconds
    processor: float  # seconds, of all
    memory: float = 0.0  # MB, at its peak


# The peak of a process begins as that of the one who starts it, so a small one does.
START = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)
"""


def command(words: list[str]) -> Cost:
    """Run a Python program to its end."""
    begun = time.monotonic()
    program = [sys.executable, "-c", START, sys.executable, "-W", "ignore", *words]
    run = subprocess.run(program, capture_output=True, text=True, check=False)
    code, processor, memory = map(float, run.stdout.split())
    if code:
        raise SystemExit(f"failed: {' '.join(words)}\n{run.stderr}")
    return Cost(time.monotonic() - begun, processor, memory)
