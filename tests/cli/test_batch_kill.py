"""200 songs, killed at 20 random moments and resumed each time: the end is that of a run that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from separate.batch.journal import NAME
from tests.batch.songs import events, files, write_song

SONGS, KILLS = 200, 20

# A process that has imported everything, and forks into runs of the command: each would else take seconds to start.
NURSERY = """
import os, sys
import separate.batch.local, separate.batch.preflight, separate.batch.run, separate.batch.existing
import separate.batch.plan, separate.cli.run, separate.models.d2gru, safetensors.torch, torchaudio
from separate.cli import main

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        sys.argv[1:] = line.split("\\t")[:-1]
        main()
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Nursery:
    """Starts runs of the command, which can be killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def line(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def start(self, *arguments: object) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{word}\t" for word in arguments) + "\n")
        self.process.stdin.flush()
        return self.line()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with closing(Nursery()) as nursery:
        yield nursery


def done_in(journal: Path) -> int:
    return journal.read_bytes().count(b'"event": "done"') if journal.exists() else 0


@pytest.mark.slow
def test_a_batch_that_is_killed_again_and_again(tiny: Path, tmp_path: Path, nursery: Nursery) -> None:
    for number in range(SONGS):
        write_song(tmp_path / "music" / f"album {number % 7}" / f"{number}.wav", 0.05, seed=number)
    command = [tmp_path / "music", "-m", tiny, "-q", "--wiener", 0, "--stems", "vocals,bass", "--resume", "-o"]
    nursery.start(*command, tmp_path / "calm")
    assert nursery.line() == 0

    chance = random.Random(7)
    for _ in range(KILLS):
        journal = tmp_path / "killed" / NAME
        enough = done_in(journal) + chance.randrange(8)
        pid = nursery.start(*command, tmp_path / "killed")
        while done_in(journal) < enough:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        assert nursery.line() == -signal.SIGKILL
    nursery.start(*command, tmp_path / "killed")
    assert nursery.line() == 0

    assert files(tmp_path / "killed") == files(tmp_path / "calm")
    assert len(files(tmp_path / "calm")) == 2 * SONGS
    begun = Counter(event["song"] for event in events(tmp_path / "killed", "begin"))
    done = Counter(event["song"] for event in events(tmp_path / "killed", "done"))
    assert set(done.values()) == {1}
    assert len(done) == SONGS
    assert sum(begun.values()) <= SONGS + KILLS  # a kill costs the song that was being separated, and no other
