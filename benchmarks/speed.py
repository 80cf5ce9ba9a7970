"""Every model that a peer has too against that peer: the whole command from file to files, and the net alone.

    pip install "separate-music[bench]"
    OMP_NUM_THREADS=2 python -m benchmarks.speed [--models htdemucs,d2-gru] [--turns 1] [--length 1.0]

The peers are the packages demucs and openunmix, and for models without a package plain torch (`benchmarks/plain.py`).
Weights are random, and the same on both sides. All take turns; the ratio is the peer's time divided by ours of the same
turn, the median over the turns, of which nets take three for each of the commands'. "limit" is the share of the speed
of a product of two squares, in that precision and in the same run. Beside wall time stands processor time: on a busy
machine trust that, and run the table on an idle one.

With an NVIDIA card the nets are also timed there, with CUDA events, in float32, TF32, bfloat16 and float16, as they
are, as CUDA graphs and compiled. `--length` makes all songs shorter or longer.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.chunking import music
from benchmarks.memory import RATE
from benchmarks.plain import nets_of
from benchmarks.processes import Cost, command
from separate.checkpoints.weights import load, save
from separate.cli.process import tune
from separate.models import MODELS, build

Run = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Row:
    """A model, how it is timed, and what its nets are given."""

    architecture: str
    seconds: float  # of the song that the commands separate
    chunks: int  # that the nets get
    chunk: float  # seconds of each
    settings: dict[str, Any]
    spectral: bool = True  # the nets hear magnitudes, not samples


ROWS = {
    "demucs": Row("demucs", 130, 4, 10, {}, spectral=False),
    "htdemucs": Row("htdemucs", 60, 1, 7.8, {}, spectral=False),
    "open-unmix": Row("open-unmix", 120, 4, 30, {}),
    "d2-gru": Row("d2-gru", 240, 16, 2, {}),
    "mad": Row("mad", 90, 1, 10, {}),
    "cws": Row("cws-unet", 60, 1, 10, {"bands": 8}),
}


def call(run: Run, x: Tensor) -> Cost:
    """Run a net that has been run twice, so that what it frees has found its place, as in the middle of a song."""
    for _ in range(2):
        run(x)
    wall, processor = time.perf_counter(), time.process_time()
    run(x)
    return Cost(time.perf_counter() - wall, time.process_time() - processor)


def take_turns(runs: dict[str, Callable[[], Cost]], turns: int) -> dict[str, list[Cost]]:
    """Let all run, one after the other, and again."""
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            costs[name].append(run())
    return costs


def products() -> dict[str, float]:
    """Measure the fastest product of two squares, FLOP/s in each precision."""
    from separate.models.inference import Product

    found, size = {}, 2048
    for name, dtype in (("float32", torch.float32), ("auto", torch.bfloat16)):
        x, w = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        ways: list[Run] = [partial(F.linear, weight=w), Product(w, w[0], dtype, size)]
        best = min(call(way, x).wall for way in ways for _ in range(4))
        found[name] = 2 * size**3 / best
    return found


def auto(precision: str) -> torch.autocast:
    """Make a function compute as `--precision` says, on a processor that multiplies bfloat16."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "auto")


def prepare(name: str, row: Row, folder: Path, song: Path) -> tuple[Path, list[str]]:
    """Write a checkpoint with random weights; return it, and the peer's command."""
    torch.manual_seed(0)
    checkpoint, out = folder / f"{name}.safetensors", str(folder / "peer")
    if row.architecture == "htdemucs":
        from benchmarks.htdemucs import commands, write_models

        write_models(folder, 48)
        return folder / "random.safetensors", commands(folder, song)["demucs"]
    model = build(row.architecture, row.settings)
    if row.architecture == "open-unmix":
        from benchmarks.open_unmix import settled

        model = settled(model.config, music(20, RATE)[None])
    save(checkpoint, model, architecture=row.architecture, licence="CC0-1.0", training={})
    return checkpoint, ["-m", "benchmarks.plain", name, str(checkpoint), str(song), out]


def ours(checkpoint: Path, song: Path, precision: str, folder: Path) -> list[str]:
    """Say how the command is called."""
    words = ["-m", "separate", str(song), "-m", str(checkpoint), "-o", str(folder / "out"), "--force", "-q"]
    return [*words, "--device", "cpu", "--precision", precision]


def nets(name: str, row: Row, checkpoint: Path, song: Tensor) -> tuple[Run, Run, Tensor]:
    """Get the peer's net and ours, which answer alike, and what they hear."""
    length = round(row.chunk * RATE)
    if name == "htdemucs":
        package = torch.load(checkpoint.with_suffix(".th"), weights_only=False)
        theirs = package["klass"](*package["args"], **package["kwargs"]).eval()
        theirs.load_state_dict(package["state"])
        model = load(checkpoint)
        return theirs, model, song[None, :, : model.trained]
    model = load(checkpoint)
    theirs, _, _ = nets_of(name, checkpoint)
    if name == "demucs":
        length = model.valid_length(length) - 2 * model.before
    chunks = song[:, : row.chunks * length].view(len(song), row.chunks, length).transpose(0, 1).contiguous()
    if name == "demucs":
        return theirs, model, chunks
    if name == "cws":
        heard = model.spectra(chunks)
        return (lambda x: torch.stack([net(x) for net in theirs])), partial(masks, model), heard
    m = model.stft(chunks)
    if name == "d2-gru":
        return partial(magnitudes, theirs), model.estimate, m
    if name == "mad":
        cut = model.split(m.abs().flatten(0, 1)).transpose(0, 1)  # (sequence, frame, bin)
        return theirs, (lambda x: torch.mul(*model.apart(x.transpose(0, 1))).transpose(0, 1)), cut
    packages = theirs.target_models.values()
    return (lambda x: torch.stack([net(x) for net in packages], 1)), model.estimate, m.abs()


def masks(model: Any, heard: Tensor) -> Tensor:
    """Ask all nets of a model of subbands."""
    heard = heard.contiguous(memory_format=torch.channels_last)
    return torch.stack([model.mask(net, heard) for net in model.nets])


def magnitudes(net: Run, mixture: Tensor) -> Tensor:
    """Ask a plain D2-GRU: (batch, channel, bin, frame) -> (batch, source, channel, bin, frame)."""
    y: Tensor = net(mixture.abs()).view(*mixture.shape[:2], -1, *mixture.shape[2:])
    return y.transpose(1, 2)


def decibels(theirs: Tensor, ours: Tensor) -> float:
    """Say how far two answers are apart."""
    return float(20 * ((theirs - ours).float().norm() / theirs.float().norm()).log10())


def show(kind: str, costs: dict[str, list[Cost]], seconds: float, more: dict[str, str]) -> None:
    """Print a line for the peer, and for ours in each precision."""
    peer = next(iter(costs.values()))
    for name, each in costs.items():
        ratio = statistics.median(theirs.wall / one.wall for theirs, one in zip(peer, each, strict=True))
        busy = statistics.median(theirs.processor / one.processor for theirs, one in zip(peer, each, strict=True))
        wall, memory = statistics.median(one.wall for one in each), max(one.memory for one in each)
        peak = f"{memory:7.0f} MB" if memory else " " * 10
        print(
            f"{kind:26}{name:9}{wall:8.2f} s{seconds / wall:8.2f} x{ratio:8.2f}{busy:11.2f} {peak}{more.get(name, '')}",
            flush=True,
        )


def time_nets(name: str, row: Row, checkpoint: Path, song: Tensor, turns: int, limit: dict[str, float]) -> None:
    """Time the nets alone, on this processor."""
    with torch.inference_mode():
        theirs, mine, x = nets(name, row, checkpoint, song)
        seconds = row.chunks * row.chunk
        some = x if name == "mad" else x[:1]  # all chunks are alike, but sequences settle when they like
        with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False):
            theirs(some)
        flop = counter.get_total_flops() * len(x) / len(some)
        expected = theirs(x)
        runs, more = {"peer": lambda: call(theirs, x)}, {}
        for precision in ("float32", "auto"):
            runs[precision] = partial(call, auto(precision)(mine), x)
            more[precision] = f"{decibels(expected, auto(precision)(mine)(x)):10.1f} dB"
        del expected
        costs = take_turns(runs, turns)
        for precision in ("float32", "auto"):
            wall = statistics.median(one.wall for one in costs[precision])
            more[precision] += f"{flop / wall / limit[precision]:8.0%}"
        show(f"{name}, net", costs, seconds, more)
        if torch.cuda.is_available():
            time_on_card(name, theirs, mine, x, seconds)


def time_on_card(name: str, theirs: Run, mine: Run, x: Tensor, seconds: float) -> None:
    """Time nets on a card, in each precision and way of running them."""
    for owner in (theirs, mine):
        for part in modules_of(owner):
            part.to("cuda")
    x = x.cuda()
    precisions = {"float32": None, "tf32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    for precision, dtype in precisions.items():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        with torch.autocast("cuda", dtype, enabled=dtype is not None):
            cells = {}
            for way, made in (("peer", lambda: theirs), ("ours", lambda: mine), ("graph", lambda: graphed(mine, x)),
                              ("compiled", lambda: torch.compile(mine))):  # fmt: skip
                try:
                    cells[way] = f"{way} {seconds / on_card(made(), x):.0f} x"  # type: ignore[no-untyped-call]
                except Exception as error:  # a way that a model does not allow is left out of the table
                    cells[way] = f"{way} - ({type(error).__name__})"
        print(f"{name + ', card':26}{precision:9}{', '.join(cells.values())}", flush=True)


def modules_of(run: Run) -> list[torch.nn.Module]:
    """Find the nets that a function calls."""
    cells = [cell.cell_contents for cell in getattr(run, "__closure__", None) or ()]
    owner = getattr(run, "__self__", run)
    return [part for part in (owner, *cells) if isinstance(part, torch.nn.Module)]


def graphed(run: Run, x: Tensor) -> Run:
    """Record a run as a CUDA graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(3):
            run(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(x)
    return lambda x: graph.replay()


def on_card(run: Run, x: Tensor) -> float:
    """Measure seconds of a run, by CUDA events: the median of five."""
    for _ in range(3):
        run(x)
    times: list[float] = []
    for _ in range(5):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        run(x)
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(ROWS))
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--length", type=float, default=1.0, help="by which songs are longer")
    parser.add_argument("--no-nets", action="store_true", help="whole commands only")
    parser.add_argument("--no-commands", action="store_true", help="nets only")
    options = parser.parse_args()
    tune()
    warnings.simplefilter("ignore")  # what torch and packages say of themselves
    limit = products()
    print(f"{torch.get_num_threads()} threads, {options.turns} turns; " + ", ".join(
        f"products in {name}: {speed / 1e9:.0f} GFLOP/s" for name, speed in limit.items()
    ))  # fmt: skip
    heads = {"wall": 10, "real time": 10, "ratio": 8, "processor": 11, "peak": 11, "to peer": 13, "limit": 8}
    print(" " * 35 + "".join(head.rjust(width) for head, width in heads.items()))
    for name in options.models.split(","):
        row = ROWS[name]
        assert row.architecture in MODELS
        seconds = row.seconds * options.length
        with tempfile.TemporaryDirectory() as place:
            folder, song = Path(place), Path(place, "song.wav")
            samples = music(max(seconds, row.chunks * row.chunk + 2), RATE)
            soundfile.write(song, samples[:, : round(seconds * RATE)].T.numpy(), RATE, "PCM_16")
            checkpoint, peer = prepare(name, row, folder, song)
            gc.collect()
            runs: dict[str, Callable[[], Cost]] = {"peer": partial(command, peer)}
            for precision in ("float32", "auto"):
                runs[precision] = partial(command, ours(checkpoint, song, precision, folder))
            if not options.no_commands:
                show(f"{name}, {seconds:.0f} s of song", take_turns(runs, options.turns), seconds, {})
            if not options.no_nets:
                time_nets(name, row, checkpoint, samples, 3 * options.turns, limit)
            gc.collect()


if __name__ == "__main__":
    main()
