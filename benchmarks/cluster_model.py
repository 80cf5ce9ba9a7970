"""How a cluster's throughput grows with its workers, and where it stops: computed from what was measured of one.

    python -m benchmarks.cluster_model [--speed 100] [--songs 10000000] [--bandwidth 10] [--format flac] ...

N workers do at most

    N / (song + gap)    songs a second: each is at work for `song` seconds, then waits `gap` for the next song
    1 / (command + N x look)            each costs the command time to plan, hand out and write into the journal,
                                        and Ray time to look at all workers
    bandwidth / bytes                   each is read, and its stems are written, by one storage

The least of them holds. To that come the start, in which machines load the model, and the end, in which workers wait
for the last songs: the longest first of a window, so half a song on average.

`song` is the length of a song by the speed of a worker. `gap`, `command` and `look` are what `benchmarks/cluster.py`
prints; their defaults here were measured on two busy cores.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

HOUR, DAY = 3600.0, 86400.0
MB, GB = 1e6, 1e9
# Bytes a second of a song of two channels of 16 bits at 44.1 kHz, and of one stem.
RATES = {"wav": 176400.0, "flac": 105840.0, "mp3": 40000.0}


@dataclass(frozen=True)
class Cluster:
    """What decides how fast songs are done."""

    length: float  # seconds of a song
    speed: float  # times real time of a worker
    gap: float  # seconds
    command: float  # seconds of the command a song
    look: float  # seconds a worker of each look
    load: float  # seconds until a worker can begin
    bandwidth: float  # bytes a second
    size: float  # bytes of a song and its stems

    @property
    def song(self) -> float:
        """Seconds that a worker needs for a song."""
        return self.length / self.speed

    def limits(self, workers: int) -> dict[str, float]:
        """Return the songs a second that each part could do."""
        return {
            "workers": workers / (self.song + self.gap),
            "command": 1 / (self.command + workers * self.look),
            "storage": self.bandwidth / self.size,
        }

    def rate(self, workers: int) -> float:
        """Return the songs a second that all of it does."""
        return min(self.limits(workers).values())

    def limit(self, workers: int) -> str:
        """Name what holds it back."""
        limits = self.limits(workers)
        return min(limits, key=limits.__getitem__)

    def seconds(self, workers: int, songs: int) -> float:
        """Return how long a library takes."""
        return self.load + songs / self.rate(workers) + (self.song / 2 if workers > 1 else 0)

    def most(self) -> int:
        """Return how many workers are of use."""
        workers = 1
        while self.limit(workers) == "workers" and workers < 10**7:
            workers += max(1, workers // 100)
        return workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=10_000_000)
    parser.add_argument("--length", type=float, default=240, help="seconds of a song")
    parser.add_argument("--speed", type=float, default=100, help="times real time of a worker")
    parser.add_argument("--gap", type=float, default=0.013, help="seconds")
    parser.add_argument("--command", type=float, default=0.0026, help="seconds")
    parser.add_argument("--look", type=float, default=3e-6, help="seconds a worker")
    parser.add_argument("--load", type=float, default=20, help="seconds until a worker begins")
    parser.add_argument("--bandwidth", type=float, default=10, help="of the storage, GB a second")
    parser.add_argument("--format", choices=RATES, default="flac", help="of songs and stems")
    parser.add_argument("--price", type=float, default=0.0, help="of a worker an hour")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3, 10, 30, 100, 300, 1000])
    o = parser.parse_args()
    size = 5 * o.length * RATES[o.format]
    cluster = Cluster(o.length, o.speed, o.gap, o.command, o.look, o.load, o.bandwidth * GB, size)
    print(
        f"{o.songs:,} songs of {o.length:g} s, {o.speed:g} x real time a worker, {size / MB:.0f} MB a song with stems\n"
    )
    head = f"{'workers':>8} {'songs/s':>9} {'x real time':>12} {'efficiency':>11} {'GB/s':>6} {'days':>9}  limit"
    print(head + (f"{'price':>12}" if o.price else ""))
    for n in o.workers:
        rate, took = cluster.rate(n), cluster.seconds(n, o.songs)
        share = rate / (n * cluster.rate(1))
        row = f"{n:8} {rate:9.2f} {rate * o.length:12.0f} {share:11.3f} {rate * size / GB:6.2f} {took / DAY:9.2f}"
        price = f"{n * took / HOUR * o.price:12.0f}" if o.price else ""
        print(f"{row}  {cluster.limit(n):7}{price}")
    most = cluster.most()
    limits = cluster.limits(most)
    print(f"\nWorkers are of use up to {most:,}: there the {cluster.limit(most)} is at its end", end=" ")
    print("(" + ", ".join(f"{name} {rate:.0f}" for name, rate in limits.items()) + " songs/s).")


if __name__ == "__main__":
    main()
