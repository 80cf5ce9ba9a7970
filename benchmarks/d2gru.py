"""How much of the machine the paper's D2-GRU uses.

    python -m benchmarks.d2gru [--chunks 1,4,6,8] [--dilations 1,2,4] [--seconds 10] [--repeats 3] [--threads N]

The yardsticks are measured in the same run: the matrix product of two large squares, and the products of the net's own
shapes. "allowed" is the speed that the net would have if it were nothing but those products; the recurrent ones are
thin, (chunks · channels · dilation) rows, and no library is fast at thin products in float32. The peer is the net
written straight down: nn.GRU(bidirectional=True) and Conv1d, the paper's dilation by slicing. With one thread
processor time is measured instead of time: other programs on the machine then count for little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
import torch.nn.functional as F

from benchmarks.plain import PlainD2GRU
from separate.models.d2gru import D2GRU, D2GRUConfig, DilatedGRU

CHANNELS = 2


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Time a call: the median of `repeats`, after one to warm up."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    run()
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return statistics.median(times)


def product(rows: int, inner: int, columns: int, dtype: torch.dtype, repeats: int) -> float:
    """Measure the speed of a matrix product as a layer does it, in FLOP/s."""
    x, weight = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
    return 2 * rows * inner * columns / seconds(lambda: F.linear(x, weight), repeats)


def parts(config: D2GRUConfig, rows: int, frames: int) -> list[tuple[float, tuple[int, int, int]]]:
    """List the net's matrix products: FLOP in all, and the shape (rows, inner, columns) of one.

    The grouped convolutions, one part in two hundred, are left out of the shapes.
    """
    width, total = config.width, config.n_fft // 2 + 1
    all_rows = rows * frames
    shapes = {
        (all_rows, 3 * total, width): 1.0,
        (all_rows, width, 3 * width): 2.0 * len(config.gru_dilation),
        (all_rows, 3 * width, len(config.sources) * total): 1.0,
    }
    for k in config.gru_dilation:
        shape = (rows * k, width, 3 * width)
        shapes[shape] = shapes.get(shape, 0) + 2 * -(-frames // k)
    return [(2.0 * count * a * b * c, (a, b, c)) for (a, b, c), count in shapes.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", default="1,4,6,8")
    parser.add_argument("--dilations", default="1,2,4")
    parser.add_argument("--precisions", default="float32,bfloat16")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a stereo chunk")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-peer", action="store_true", help="leave out the plain version, which is slow")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = D2GRUConfig(width=options.width)
    frames = 1 + int(options.seconds * config.sample_rate) // config.hop
    dtypes = [getattr(torch, name) for name in options.precisions.split(",")]
    rows_of_table = []
    with torch.inference_mode():
        model = D2GRU(config).eval()
        flop_a_row = 2.0 * sum(p.numel() for p in model.parameters() if p.ndim > 1) * frames
        square = {dtype: product(4096, 4096, 4096, dtype, options.repeats) for dtype in dtypes}
        speeds: dict[tuple[torch.dtype, tuple[int, int, int]], float] = {}
        for dilation in map(int, options.dilations.split(",")):
            config = replace(config, gru_dilation=(dilation,) * 3)
            for layer in model.modules():
                if isinstance(layer, DilatedGRU):
                    layer.dilation = dilation
            for chunks in map(int, options.chunks.split(",")):
                mixture = torch.rand(chunks, CHANNELS, 2049, frames) * 5
                rows = chunks * CHANNELS
                for dtype in dtypes:
                    low = dtype != torch.float32
                    with torch.autocast("cpu", dtype) if low else nullcontext():
                        took = seconds(lambda: model.estimate(mixture), options.repeats)  # noqa: B023
                    ideal = 0.0
                    for flop, shape in parts(config, rows, frames):
                        if (dtype, shape) not in speeds:
                            speeds[dtype, shape] = product(*shape, dtype, options.repeats)
                        ideal += flop / speeds[dtype, shape]
                    speed, allowed = flop_a_row * rows / took, flop_a_row * rows / ideal
                    peer = ""
                    if not options.no_peer and not low:
                        plain = PlainD2GRU(config.width, 2049, len(config.sources), dilation).eval()
                        peer = f"{seconds(lambda: plain(mixture), options.repeats) / took:8.2f}"  # noqa: B023
                        del plain
                    rows_of_table.append(
                        (dilation, chunks, dtype, speed, allowed, chunks * options.seconds / took, peer)
                    )
                    print(f"dilation {dilation}, {chunks} chunks, {dtype}: {speed / 1e9:.1f} GFLOP/s", flush=True)
        for dtype in dtypes:  # again, as other programs may have slowed down the first one
            square[dtype] = max(square[dtype], product(4096, 4096, 4096, dtype, options.repeats))
    print(f"\n{options.threads} threads, chunks of {options.seconds:g} s in stereo, medians of {options.repeats}")
    for dtype, speed in square.items():
        print(f"product of 4096 x 4096 matrices in {str(dtype)[6:]}: {speed / 1e9:.1f} GFLOP/s")
    for (dtype, (a, b, c)), speed in speeds.items():
        print(f"product of {a} x {b} and {b} x {c} in {str(dtype)[6:]}: {speed / 1e9:.1f} GFLOP/s")
    print("\ndilation chunks  precision  GFLOP/s  of square  allowed  of allowed  x real time  vs plain")
    for dilation, chunks, dtype, speed, allowed, faster, peer in rows_of_table:
        print(
            f"{dilation:8} {chunks:6}  {str(dtype)[6:]:9} {speed / 1e9:8.1f} {speed / square[dtype]:10.0%}"
            f" {allowed / 1e9:8.1f} {speed / allowed:11.0%} {faster:12.2f}  {peer}"
        )


if __name__ == "__main__":
    main()
