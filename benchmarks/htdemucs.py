"""Time the whole command with HTDemucs against its authors' command, on the same random weights and the same file.

    pip install "separate-music[test]"
    OMP_NUM_THREADS=2 python -m benchmarks.htdemucs [--seconds 60] [--turns 3] [--minutes 30]

Both read a file of music-like sound and write four WAVs of 16 bits, in processes of their own, with no shifts and a
quarter of overlap. They take turns: each ratio is the median over the turns of the package's time divided by ours in
the same turn. The difference is 20 log10(‖ours − theirs‖ / ‖theirs‖) of the worst stem, as a whole song in float32
samples comes out of `Separator` and `apply_model`. Weights are those that the package begins a training with.

With `--minutes` the peak memory of both is measured on a longer file instead, in one run each. What grows with a song
does not depend on the size of the model, so `--channels 8` shows it sooner.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from benchmarks.chunking import music
from benchmarks.memory import RATE, synthesise
from benchmarks.processes import command
from separate.separator import ArraySong, Separator
from tests.models.peers import publish

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from demucs.apply import apply_model
    from demucs.htdemucs import HTDemucs as Package

STEMS = ["drums", "bass", "other", "vocals"]


def write_models(folder: Path, channels: int) -> Any:
    """Make the published model of four stems, and write it as the package loads it and as it publishes it."""
    torch.manual_seed(0)
    bottom = 512 if channels == 48 else 0
    model = Package(STEMS, channels=channels, bottom_channels=bottom, dconv_mode=3, segment=Fraction(39, 5)).eval()
    publish(model, folder / "random.safetensors", half=True)
    args, kwargs = model._init_args_kwargs
    state = {name: value.half() for name, value in model.state_dict().items()}
    torch.save({"klass": Package, "args": args, "kwargs": kwargs, "state": state}, folder / "random.th")
    return model.half().float()


def commands(folder: Path, song: Path) -> dict[str, list[str]]:
    """Say how each program is called."""
    out = ["-o", str(folder / "out")]
    demucs = ["-m", "demucs", "--repo", str(folder), "-n", "random", "--shifts", "0", "-d", "cpu", *out, str(song)]
    ours = ["-m", "separate", str(song), "-m", str(folder / "random.safetensors"), "--overlap", "0.25"]
    ours += ["--device", "cpu", "--force", "-q", *out]
    return {
        "demucs": demucs,
        "separate float32": [*ours, "--precision", "float32"],
        "separate auto": [*ours, "--precision", "auto"],
    }


def worst(reference: Tensor, estimate: Tensor) -> float:
    """Compare stems (source, channel, time): dB of the worst one's difference."""
    error = (estimate - reference).square().sum((1, 2)) / reference.square().sum((1, 2))
    return float(10 * torch.log10(error.max().clamp_min(1e-30)))


def differences(model: Any, folder: Path, song: Tensor) -> dict[str, float]:
    """Say how far ours is off on a song (channel, time), in each precision."""
    expected = apply_model(model, song[None], shifts=0, overlap=0.25)[0]
    found = {}
    for precision in ("float32", "auto"):
        ours = Separator(folder / "random.safetensors", device="cpu", precision=precision, overlap=0.25)
        stems = ours.separate(ArraySong(song.numpy(), RATE))
        found[f"separate {precision}"] = worst(expected, torch.stack([torch.from_numpy(stems[s]) for s in STEMS]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the song that is timed")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="measure memory, on a song of this length")
    parser.add_argument("--channels", type=int, default=48, help="of the first layer; published are 48")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, song = Path(place), Path(place, "song.wav")
        model = write_models(folder, options.channels)
        if options.minutes:
            synthesise(song, options.minutes)
            first = 0.0
            for name, words in commands(folder, song).items():
                peak = command(words).memory
                first = first or peak
                print(f"{name:20} {peak:8.0f} MB   1/{first / peak:.2f} of demucs", flush=True)
            return
        samples = music(options.seconds, RATE)
        soundfile.write(song, samples.T.numpy(), RATE, "PCM_16")
        apart = differences(model, folder, samples[:, : 20 * RATE])
        times: dict[str, list[float]] = {}
        for turn in range(options.turns):
            for name, words in commands(folder, song).items():
                seconds = command(words).wall
                times.setdefault(name, []).append(seconds)
                print(f"turn {turn + 1}: {name} {seconds:.2f} s", file=sys.stderr, flush=True)
        print(f"{options.seconds:g} s of song, {options.turns} turns, {torch.get_num_threads()} threads")
        for name, each in times.items():
            ratio = statistics.median(theirs / ours for theirs, ours in zip(times["demucs"], each, strict=True))
            difference = f"{apart[name]:8.1f} dB" if name in apart else ""
            print(f"{name:20} {statistics.median(each):8.2f} s   x{ratio:.2f}  {difference}", flush=True)


if __name__ == "__main__":
    main()
