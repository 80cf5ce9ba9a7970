"""What cutting a song into chunks costs: SDR of chunked stems against the whole song at once.

    python -m benchmarks.chunking CHECKPOINT [SONG] [--wiener 0,1] [--segments 6,10,20] [--contexts 0,0.5,1,2]
        [--overlaps 0,0.1,0.25] [--start 0] [--seconds 60]

Without a song it makes a minute of music-like sound: a bass line, chords, a drum loop and a voice with vibrato, panned.
The number is 10 log10(Σ y² / Σ (y − chunked)²) over channels and time; first of the worst stem, then of each.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time

import torch
from torch import Tensor

from separate.audio.reader import AudioReader
from separate.audio.resample import Resampler
from separate.checkpoints.weights import load
from separate.separator import choose_chunking
from separate.stream import stream


def music(seconds: float, rate: int) -> Tensor:
    """Make music-like sound (channel, time): everything that the usual four stems are, in a simple form."""
    torch.manual_seed(0)
    t = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    beat = 0.5
    step = (t / beat).long()
    notes = torch.tensor([0, 0, 7, 5, 3, 3, 10, 7])
    since = t % beat

    def tone(semitones: Tensor, harmonics: int, wobble: Tensor | float = 0.0) -> Tensor:
        frequency = 55 * 2 ** (semitones / 12)
        phase = 2 * math.pi * (torch.cumsum(frequency / rate, 0) + wobble)
        return sum((torch.sin(h * phase) / h for h in range(1, harmonics + 1)), torch.zeros_like(t))

    bass = tone(notes[step % 8], 6) * torch.exp(-3 * since)
    chord = sum((tone(24 + i + notes[step // 4 % 8], 8) for i in (0, 4, 7)), torch.zeros_like(t)) * 0.15
    melody = notes[(step // 2 * 5) % 8] + 36
    voice = tone(melody, 12, 0.5 * torch.sin(2 * math.pi * 5.5 * t)) * (
        0.6 + 0.4 * torch.sin(2 * math.pi * t / 7)
    ).clamp(0)
    noise = torch.randn(len(t), dtype=torch.float64)
    kick = torch.sin(2 * math.pi * 60 * since * torch.exp(-5 * since)) * torch.exp(-12 * since) * (step % 2 == 0)
    drums = (
        1.5 * kick + noise * torch.exp(-30 * since) * (step % 2 == 1) + 0.3 * noise * torch.exp(-80 * (t % (beat / 2)))
    )
    pans = [(0.5, 0.5), (0.7, 0.3), (0.5, 0.5), (0.45, 0.55)]
    mix = sum(
        (
            x / x.abs().amax() * torch.tensor(pan)[:, None]
            for x, pan in zip((bass, chord, voice, drums), pans, strict=True)
        ),
        torch.zeros(2, len(t), dtype=torch.float64),
    )
    return (mix / mix.abs().amax() * 0.9).float()


def read(path: str, rate: int, start: float, seconds: float) -> Tensor:
    """Read a part of a song at `rate`: (channel, time)."""
    with AudioReader(path) as song:
        to_model = Resampler(song.rate, rate)
        first = round(start * song.rate)
        blocks = [torch.from_numpy(block) for block in song.blocks(first, first + round(seconds * song.rate))]
    return torch.cat([to_model.process(torch.cat(blocks, 1)), to_model.flush()], 1)


def decibels(reference: Tensor, estimate: Tensor) -> list[float]:
    """SDR of each source, (source, channel, time)."""
    error = (reference - estimate).double().square().sum((1, 2))
    return (10 * torch.log10(reference.double().square().sum((1, 2)) / error)).tolist()


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("song", nargs="?")
    parser.add_argument("--wiener", type=numbers, default=[0, 1])
    parser.add_argument("--segments", type=numbers, default=[6, 10, 20], help="seconds")
    parser.add_argument("--contexts", type=numbers, default=[0, 0.5, 1, 2], help="seconds at either end of a segment")
    parser.add_argument(
        "--overlaps", type=numbers, default=[0, 0.1, 0.25], help="share of what is between the contexts"
    )
    parser.add_argument("--start", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    print("wiener segment context overlap  worst stem  stems in dB", flush=True)
    for wiener in options.wiener:
        model = load(options.checkpoint, wiener=int(wiener))
        rate = model.sample_rate
        mix = read(options.song, rate, options.start, options.seconds) if options.song else music(options.seconds, rate)
        with torch.inference_mode():
            began = time.perf_counter()
            whole = model(mix[None])[0]
            took = time.perf_counter() - began
            for segment, context, overlap in itertools.product(options.segments, options.contexts, options.overlaps):
                model.context = context
                began = time.perf_counter()
                chunks = stream([mix], model, choose_chunking(model, segment, overlap, 1, 4))
                stems = torch.cat(list(chunks), -1)
                ratio = (time.perf_counter() - began) / took
                sdr = decibels(whole, stems)
                each = "  ".join(f"{name} {value:5.1f}" for name, value in zip(model.sources, sdr, strict=True))
                print(
                    f"{wiener:6g} {segment:7g} {context:7g} {overlap:7g} {min(sdr):11.1f}  {each}  x{ratio:.2f} time",
                    flush=True,
                )


if __name__ == "__main__":
    main()
