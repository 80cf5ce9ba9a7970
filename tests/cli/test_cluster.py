"""A cluster of three machines, all of them here. One is lost, who hands out the songs is killed, and all are done."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from separate.batch.journal import NAME
from tests.batch.songs import events, files, write_song
from tests.conftest import Outcome

SONGS = 60
# Three machines of one processor each, in processes of their own. One is given up after two seconds of silence.
MACHINES = """
import json, sys
from ray.cluster_utils import Cluster

machine = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
hasty = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 250, "health_check_failure_threshold": 8}
cluster = Cluster(True, head_node_args={**machine, "include_dashboard": False, "_system_config": hasty})
try:
    for _ in range(2):
        cluster.add_node(wait=False, **machine)
    cluster.wait_for_nodes(timeout=120)
    nodes = [cluster.head_node, *cluster.worker_nodes]
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "machines": raylets}), flush=True)
    sys.stdin.read()
finally:
    cluster.shutdown()
"""


@dataclass(frozen=True)
class Cluster:
    """What the tests know of it."""

    address: str
    machines: list[int]  # the process that stands for each, the head's first


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three machines, which nobody else gets into, whatever the user who runs the tests has set up."""
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    own["OMP_NUM_THREADS"] = "1"  # a worker asks for as many processors as torch has threads: a machine here has one
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        command = [sys.executable, "-c", MACHINES]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith("{")), "")
            assert line, "Ray did not start"
            yield Cluster(**json.loads(line))
            process.communicate()


def start(*arguments: object, log: Path) -> subprocess.Popen[bytes]:
    """Start the command in a process of its own."""
    code = "from separate.cli import main; main()"
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=file, stderr=file)


def until(what: Callable[[], Any], process: subprocess.Popen[bytes], log: Path) -> Any:
    """Wait for something, as long as a process lives."""
    while not (found := what()):
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    return found


def workers(*machines: int) -> list[int]:
    """Find the processes on machines that separate a song just now."""
    found = []
    for machine in machines:
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/{machine}/task/{machine}/children").read_text().split():
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Worker.do"):
                    found.append(int(pid))
    return found


def done_in(out: Path) -> int:
    journal = out / NAME
    return journal.read_bytes().count(b'"event": "done"') if journal.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.cluster
def test_all_songs_are_done_whoever_is_lost(
    tiny: Path, tmp_path: Path, cluster: Cluster, cli: Callable[..., Outcome]
) -> None:
    for number in range(SONGS):
        write_song(tmp_path / "music" / f"album {number % 7}" / f"{number}.wav", 0.5 + number / 50, seed=number)
    command = [tmp_path / "music", "-m", tiny, "--precision", "float32", "--resume"]
    assert cli(*command, "-q", "-o", tmp_path / "calm").code == 0

    out, log = tmp_path / "out", tmp_path / "log"
    command += ["--cluster", cluster.address, "-o", out]
    driver = start(*command, log=log)
    machine = cluster.machines.pop()
    busy = until(lambda: done_in(out) > 5 and workers(machine), driver, log)
    for pid in (machine, *busy):
        os.kill(pid, signal.SIGKILL)
    until(lambda: b"another one tries" in log.read_bytes(), driver, log)
    before = done_in(out)
    until(lambda: done_in(out) > before + 5, driver, log)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert 10 < done_in(out) < SONGS
    with (out / NAME).open("ab") as journal:
        journal.write(b"{\n")

    assert start(*command, log=log).wait() == 0, log.read_text()
    assert files(out) == files(tmp_path / "calm")
    assert len(files(out)) == 4 * SONGS
    done = Counter(event["song"] for event in events(out, "done"))
    assert len(done) == SONGS
    assert set(done.values()) == {1}
    assert not events(out, "failed")
    assert "lines of the journal cannot be read" in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.cluster
def test_a_song_that_ends_its_workers_is_given_up(tiny: Path, tmp_path: Path, cluster: Cluster) -> None:
    """Who reads from a pipe waits for ever: the song that is one is in work until we end its worker."""
    os.mkfifo(tmp_path / "poison.wav")
    good = write_song(tmp_path / "good.wav")
    out, log = tmp_path / "out", tmp_path / "log"
    driver = start(
        *(tmp_path / "poison.wav", good, "-m", tiny, "--cluster", cluster.address, "--retries", 1, "-o", out), log=log
    )
    for _ in range(2):
        (pid,) = until(lambda: done_in(out) and workers(*cluster.machines), driver, log)
        os.kill(pid, signal.SIGKILL)
        while pid in workers(*cluster.machines):
            time.sleep(0.01)
    assert driver.wait() == 1
    assert f"{tmp_path}/poison.wav: given up, 2 workers ended over it" in log.read_text()
    assert len(files(out)) == 4
    (failed,) = events(out, "failed")
    assert failed["song"] == f"{tmp_path}/poison.wav"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.cluster
def test_ctrl_c(tiny: Path, tmp_path: Path, cluster: Cluster) -> None:
    os.mkfifo(tmp_path / "endless.wav")
    out, log = tmp_path / "out", tmp_path / "log"
    driver = start(tmp_path / "endless.wav", "-m", tiny, "--cluster", cluster.address, "-o", out, log=log)
    until(lambda: workers(*cluster.machines), driver, log)
    driver.send_signal(signal.SIGINT)
    assert driver.wait() == 130
    assert log.read_text().endswith("separate: interrupted; what was not complete has been removed\n")
    assert "Traceback" not in log.read_text()
    assert "go on with: separate" in log.read_text()
    assert not workers(*cluster.machines)
    assert files(out) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cluster", "nowhere"), "--cluster nowhere: write it as host:port"),
        (("--cluster", "127.0.0.1:1"), "--cluster 127.0.0.1:1: Connection refused"),
        (("--cluster", "ray://127.0.0.1:1"), "--cluster ray://127.0.0.1:1: Connection refused"),
        (("--cluster", "local", "--jobs", 2), "--jobs and --cluster"),
        (("--cluster", "local", "--out", "-"), "--out - and --cluster"),
        (("--cluster", "local", "--device", "cuda:1"), "--device cuda:1 and --cluster"),
        (("--cluster", "local", "--player"), "--player, --report and --cluster"),
    ],
)
def test_what_cannot_be(
    options: tuple[object, ...],
    message: str,
    tiny: Path,
    song: Path,
    cli: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(song.parent)
    outcome = cli(song, "-m", tiny, *options)
    assert outcome.code == 2
    (*_, line) = outcome.err.splitlines()
    assert message in line
    assert outcome.out == ""
    assert [path.name for path in song.parent.iterdir()] == [song.name]


def test_standard_input_stays_here(tiny: Path, cli: Callable[..., Outcome]) -> None:
    outcome = cli("-", "-m", tiny, "--cluster", "local")
    assert outcome.code == 2
    assert "standard input" in outcome.err


def test_a_port_at_which_something_else_listens(
    tiny: Path, song: Path, cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("separate.batch.cluster.PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        outcome = cli(song, "-m", tiny, "--cluster", f"127.0.0.1:{server.getsockname()[1]}")
    assert outcome.code == 2
    assert "what answers there is no cluster" in outcome.err


def test_without_ray(tiny: Path, song: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from separate.cli import main; main()"
    command = [sys.executable, "-c", code, song, "-m", tiny, "-o", song.parent / "out", "--cluster", "local"]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr == ('separate: --cluster needs Ray, which is not installed: pip install "separate-music[ray]"\n')
