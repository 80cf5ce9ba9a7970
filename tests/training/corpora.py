"""A corpus of a few tones and clicks, made on the spot."""

from __future__ import annotations

import csv
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 44100
Event = tuple[int, bytes]  # tick, message


def midi_file(path: Path, tracks: Sequence[tuple[str, Sequence[Event]]], division: int = 480) -> Path:
    """Write a standard MIDI file of the named tracks."""
    chunks = [b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), division)]
    for name, events in tracks:
        body = b"\x00\xff\x03" + bytes([len(name)]) + name.encode()
        now = 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            body += number(tick - now) + message
            now = tick
        body += b"\x00\xff\x2f\x00"
        chunks.append(b"MTrk" + struct.pack(">I", len(body)) + body)
    path.write_bytes(b"".join(chunks))
    return path


def number(value: int) -> bytes:
    """Write a number with seven bits a byte."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))


def struck(tick: int, pitch: int, length: int = 240, channel: int = 0) -> list[Event]:
    """Strike a note and let it go."""
    return [
        (tick, bytes([0x90 | channel, pitch, 100])),
        (tick + length, bytes([0x80 | channel, pitch, 0])),
    ]


def tone(pitch: float, seconds: float) -> np.ndarray:
    """Ring a note that decays."""
    t = np.arange(int(seconds * RATE)) / RATE
    f = 440 * 2 ** ((pitch - 69) / 12)
    wave: np.ndarray = 0.3 * np.exp(-2 * t) * sum(np.sin(2 * np.pi * f * k * t) / k for k in (1, 2, 3))
    return wave


def click(seed: int, seconds: float = 0.2) -> np.ndarray:
    """Make a burst of noise, as drums are."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    burst: np.ndarray = 0.3 * np.exp(-30 * t) * rng.standard_normal(len(t))
    return burst


def write_corpus(folder: Path) -> Path:
    """Write samples, scores, one recorded song and a singer, with their manifest."""
    rows: list[dict[str, str]] = []

    def add(path: str, wave: np.ndarray | None, **columns: str) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if wave is not None:
            soundfile.write(folder / path, wave, RATE)
        rows.append({"path": path, "set": "permissive", "attribution_id": "ours", **columns})

    for seed, role in enumerate(("kick", "snare", "hihat-closed", "hihat-open", "tom", "crash", "ride", "clap", "rim")):
        add(f"drums/{role}.wav", click(seed), stem="drums", kind="one-shot", instrument=role)
    add("drums/shaker.wav", click(99), stem="drums", kind="one-shot", instrument="shaker")
    for stem, low in (("bass", 24), ("other", 48)):
        for pitch in range(low, low + 30, 6):
            name = f"{stem}/guitar-m{pitch:03d}.wav"
            add(name, tone(pitch, 1.0), stem=stem, kind="one-shot", instrument="guitar", pitch_midi=str(pitch))
    for stem, pitch in (("vocals", 69), ("drums", 40), ("bass", 33), ("other", 57)):
        add(f"songs/one/{stem}.wav", np.tile(tone(pitch, 1.0), 8), stem=stem, kind="stem")
    add("research/secret/vocals.wav", tone(60, 1.0), stem="vocals", kind="stem", set="research")
    (folder / "midi").mkdir()
    beats = [event for i in range(32) for event in struck(i * 240, (36, 42, 38, 42)[i % 4], 60, 9)]
    midi_file(folder / "midi/groove.mid", [("Drums", beats)])
    add("midi/groove.mid", None, stem="drums", kind="beat")
    chords = [e for i in range(60) for p in (48, 60, 64, 67) for e in struck(i * 960, p + 5 * (i % 2), 900)]
    melody = [e for i in range(120) for e in struck(i * 480, 72 + i % 5, 400)]
    midi_file(folder / "midi/song.mid", [("PIANO", chords), ("MELODY", melody)])
    add("midi/song.mid", None, stem="mix", kind="song")
    with (folder / "manifest.csv").open("w", newline="") as file:
        columns = ["path", "stem", "kind", "instrument", "pitch_midi", "attribution_id", "set", "seconds"]
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    return folder


def registers(seconds: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Make four sources in four registers: easy to tell apart, once one has learnt where they live."""
    rng = np.random.default_rng(seed)
    size = int(seconds * RATE)
    f = np.fft.rfftfreq(size, 1 / RATE)
    edges = {"vocals": (1500, 5000), "drums": (300, 1500), "bass": (0, 300), "other": (5000, 16000)}
    stems = {}
    for source, (low, high) in edges.items():
        x = np.fft.irfft(np.fft.rfft(rng.standard_normal((2, size))) * ((f > low) & (f < high)), size)
        stems[source] = 0.1 / x.std() * x
    return stems


def write_song(folder: Path, stems: dict[str, np.ndarray], rate: int = RATE) -> Path:
    """Write stems (channel, time) as a folder of files."""
    folder.mkdir(parents=True)
    for name, stem in stems.items():
        soundfile.write(folder / f"{name}.wav", stem.T, rate)
    return folder
