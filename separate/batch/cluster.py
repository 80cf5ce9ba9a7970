"""A Ray cluster as such: how to get into one, what machines it has, which part of one a worker gets, how they end.

Errors of Ray are translated here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from separate.audio.fileset import shown
from separate.errors import SeparateError, UsageError

try:
    import grpc
    import ray
    from ray.exceptions import OutOfMemoryError, RayError, RayTaskError
    from ray.util import metrics
except ModuleNotFoundError as missing:
    raise UsageError('--cluster needs Ray, which is not installed: pip install "separate-music[ray]"') from missing

__all__ = [
    "PATIENCE",
    "RayError",
    "Share",
    "choose_share",
    "connected",
    "connection_stands",
    "machines",
    "metrics",
    "ray",
    "reason",
]

PATIENCE = 10.0  # seconds, for an answer
LOGS = "/tmp/ray/session_latest/logs"
STORE = 80 * 2**20  # bytes of shared memory that Ray keeps for objects; songs and stems are none


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to a cluster; nothing of it is left running but what was there before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what is separated here is nobody's business
    address = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    mine: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE} if address == "local" else {}
    stop = signal.getsignal(signal.SIGTERM)
    try:
        if address not in ("local", "auto"):
            reach(address)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **mine)
    except Exception as error:  # of whatever kind: Ray raises bare ones, too
        why = (isinstance(error, OSError) and error.strerror) or first_line(error)
        if address == "local":
            raise UsageError(
                f"--cluster local: Ray did not start here: {why}; its logs tell more, see {LOGS}"
            ) from error
        raise UsageError(f"--cluster {shown(address)}: {why}; is its head running, and can it be reached?") from error
    signal.signal(signal.SIGTERM, stop)  # Ray has one of its own
    hush()
    try:
        yield
    except (RayError, ConnectionError) as error:
        raise SeparateError(f"--cluster {shown(address)}: is lost: {first_line(error)}; --resume goes on") from error
    finally:
        ray.shutdown()


def reach(address: str) -> None:
    """Make sure that a cluster answers at an address, in time: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError("write it as host:port, ray://host:port, auto or local")
    socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    if os.environ.get("RAY_USE_TLS", "0") == "0":
        with grpc.insecure_channel(f"{host}:{port}") as channel:
            try:
                grpc.channel_ready_future(channel).result(PATIENCE)
            except grpc.FutureTimeoutError as error:
                raise ConnectionError("what answers there is no cluster") from error


def hush() -> None:
    """Have Ray's driver keep to itself what machines report: it would print that on standard output, among ours."""
    import ray._private.worker as driver

    if hasattr(driver, "print_to_stdstream"):
        driver.print_to_stdstream = lambda *args, **kwargs: None


def connection_stands() -> bool:
    """Tell whether we are connected: if not, Ray's functions would start a cluster of their own."""
    return ray.is_initialized()


def machines() -> list[dict[str, float]]:
    """List what each machine of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Share:
    """What each worker gets of a machine."""

    cpus: float
    gpus: float = 0.0
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.gpus:g} GPU and {self.cpus:g} CPU" if self.gpus else f"{self.cpus:g} CPU"

    def fits(self, machine: Mapping[str, float]) -> int:
        """Count the workers that a machine has room for."""
        if not self.gpus:
            return int(machine.get("CPU", 0) // self.cpus)
        gpus = machine.get("GPU", 0) / self.gpus
        return int(1e-6 + (min(gpus, machine.get("CPU", 0) / self.cpus) if self.cpus else gpus))


def choose_share(machines: Sequence[Mapping[str, float]], device: str, per_gpu: int, threads: str = "") -> Share:
    """Choose what a worker gets: a part of a GPU and a processor, or up to four processors so that none are left over.

    Args:
        machines: what they have.
        device: "cuda", "cpu", or "auto": GPUs if there are any.
        per_gpu: workers on each GPU.
        threads: how many a worker without a GPU shall have; "" to choose.
    """
    gpus = [machine for machine in machines if machine.get("GPU")]
    if device == "cuda" or (device == "auto" and gpus):
        cpus = min((m.get("CPU", 1) / (m["GPU"] * per_gpu) for m in gpus), default=1.0)
        return Share(min(1.0, cpus), 1 / per_gpu, max(1, int(cpus)))
    cores = [int(machine["CPU"]) for machine in machines if machine.get("CPU", 0) >= 1]
    share = next(n for n in (4, 3, 2, 1) if all(each % n == 0 for each in cores)) if cores else 1
    number = int(threads) if threads.isdecimal() and int(threads) else share
    return Share(number, threads=number)


def reason(error: RayError) -> str:
    """Say in few words why a worker ended."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "OutOfMemory" in text:
        return "memory ran out"
    if getattr(error, "preempted", False) or ("node" in text.lower() and "died" in text.lower()):
        return "its machine is gone"
    if isinstance(error, RayTaskError) or "init" in text:
        return text.strip().splitlines()[-1]
    return "its process ended unexpectedly"


def first_line(error: BaseException) -> str:
    """Return what an error says first."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
