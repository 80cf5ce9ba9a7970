"""What a batch will take in time and memory: the model is tried on noise, for a guess by its architecture is none."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from separate.separator import ArraySong, Separator

__all__ = ["Trial", "try_out"]

LONGEST = 600  # seconds of noise: songs are hardly longer, whatever the batch


@dataclass(frozen=True)
class Trial:
    """What a process takes that separates songs."""

    speed: float  # seconds of music in a second
    memory: int | None  # bytes at most, of the device if that has its own; None: the system does not say
    free: int | None  # bytes that there are


def try_out(separator: Separator) -> Trial:
    """Separate as much noise as the model takes at once."""
    chunking, rate = separator.chunking, separator.sample_rate
    length = min((chunking.batch - 1) * chunking.hop + chunking.segment, LONGEST * rate)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (2, length)).astype(np.float32)
    begun = time.monotonic()
    separator.separate(ArraySong(noise, rate))
    speed = length / rate / (time.monotonic() - begun)
    if separator.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(separator.device)
        used = torch.cuda.max_memory_reserved(separator.device)
        return Trial(speed, used, free + used)
    return Trial(speed, peak(), available())


def peak() -> int | None:
    """Read how much memory this process has had at most."""
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def available() -> int | None:
    """Read how much memory programs can still have, where the system says."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None
