"""Registries, recipes, locks and journals; and scores, which are bytes."""

import os
import tempfile
from pathlib import Path

from separate.batch.existing import Known, sweep
from separate.batch.job import Job
from separate.batch.journal import NAME, read_records
from separate.checkpoints.lock import lock_path, matches, read_lock
from separate.checkpoints.registry import read_registry
from separate.training.config import read_recipe
from tests.fuzz.target import Seed, Seeds
from tests.training.corpora import midi_file, struck

TOML = (
    b"[" * 2000,
    b"a.b.c = 1\n",
    b"[[a]]\n",
    b"'''",
    b"1979-05-27",
    b"inf",
    b"\\uD800",
    b"[a.b]\n",
    b"= ",
    b"{a = 1}",
)
REGISTRY = b"""[mine]
architecture = "d2-gru"
source = "file:mine.safetensors"
stems = ["vocals", "other"]
sample_rate = 44100
licence = "MIT"
summary = "what it is for"
megabytes = 84
sdr = { vocals = 8.9, drums = 10.1 }
measured = "on what"
"""
RECIPE = b"""architecture = "d2-gru"
base = "base.toml"
licence = "MIT"
[model]
width = 64
groups = 4
[data]
licensed = ["permissive", "mine"]
held = 0.1
[mixing]
scale = [0.5, 1.5]
natural = true
[schedule]
optimiser = "adam"
steps = 10
"""
LOCK = b'{"version": 1, "sha256": {\n"user/repo@0123/net.safetensors": "9f86d081884c7d65",\n"a/b@c/d": "e3b0c442"\n}}\n'
STAMP = b'{"size": 5, "mtime_ns": 1, "sha256": "00"}'
JOURNAL = (
    b"""{"v": 1, "event": "batch", "time": "2001-01-01", "pid": 1, "host": "h", "separate": "0.1.0"}
{"v": 1, "event": "begin", "song": "song.wav", "outputs": {"vocals": "song/vocals.wav", "other": "song/other.wav"}}
{"v": 1, "event": "done", "song": "song.wav", "input": %(a)b, "made": {"checkpoint": "0"}, "outputs": {"vocals":
 {"file": "song/vocals.wav", "size": 5, "mtime_ns": 1, "sha256": "00"}}, "gain": 1.0, "seconds": 1, "audio_seconds": 2}
{"v": 1, "event": "failed", "song": "x.wav", "outputs": {"vocals": "song/other.wav"}, "error": "no"}
{"v": 1, "event": "begin", "song": "y.wav", "outputs": {"vocals": "y/vocals.wav"}}
""".replace(b"\n {", b" {")
    % {b"a": STAMP}
)


def read_rows(path: Path) -> None:
    """Read a registry, and look at what its rows say."""
    for row in read_registry(path).values():
        repr((row.path, row.free, row.mean_sdr))


def read_training(path: Path) -> None:
    """Read a recipe that begins with another one."""
    path.with_name("base.toml").write_bytes(b"[model]\nwidth = 32\n")
    read_recipe(path)


def read_lock_of(path: Path) -> None:
    """Read the lock of a cache, where this file is it, and look a file up."""
    from huggingface_hub import constants

    before, constants.HF_HUB_CACHE = constants.HF_HUB_CACHE, str(path.parent / "hub")
    try:
        lock_path().write_bytes(path.read_bytes())
        read_lock()
        matches("a/b@c/d", path)
    finally:
        constants.HF_HUB_CACHE = before


def read_journal(path: Path) -> None:
    """Read the journal of a folder, clean the folder up by it, and look up a song that it knows."""
    folder = path.parent / "out"
    (folder / "song").mkdir(parents=True, exist_ok=True)
    stem = folder / "song/vocals.wav"
    stem.write_bytes(b"12345")
    os.utime(stem, ns=(1, 1))
    (folder / NAME).write_bytes(path.read_bytes())
    records = read_records(folder)
    sweep(records, folder)
    for existing in ("refuse", "skip"):
        known = Known(folder, records, {"checkpoint": "0"}, existing, resume=existing == "refuse")
        known.settle(Job("song.wav", {"vocals": stem, "other": folder / "song/other.wav"}))


def scores() -> Seeds:
    """Write a score of two tracks."""
    with tempfile.TemporaryDirectory() as folder:
        slow = (480, b"\xff\x51\x03" + (1_000_000).to_bytes(3, "big"))
        tracks = [("tempo", [slow]), ("MELODY", struck(0, 60) + struck(480, 64)), ("PIANO", struck(960, 48, 100, 3))]
        return {"a.mid": Seed(midi_file(Path(folder, "a.mid"), tracks).read_bytes())}
