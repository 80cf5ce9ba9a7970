"""What the command sets for its whole process."""

from __future__ import annotations

import subprocess
import sys

FAULTS = """
import resource, sys
if sys.argv[1] == "tuned":
    from separate.cli.process import tune
    tune()
import numpy
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
numpy.ones(20_000_000 // 8)
before = faults()
for _ in range(20):
    numpy.ones(20_000_000 // 8)
print(faults() - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    assert faults("tuned") * 10 < max(faults("plain"), 50)
