"""Music made of scores and samples: drums, bass and other instruments of a song that never was, as separate stems.

A song borrows harmony and tempo from a score; drum patterns, played or programmed, are stretched to it. Instruments,
patterns, levels, effects and who plays when are drawn by chance, from a seed: the same one gives the same song.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from separate.training import augment as fx
from separate.training.drums import make_drums
from separate.training.instruments import Instrument, play, synthesizer
from separate.training.library import Library
from separate.training.midi import Note, read_midi

__all__ = ["make_song"]

RATE = fx.RATE


def make_song(library: Library, rng: np.random.Generator, seconds: float) -> dict[str, Tensor]:
    """Make drums, bass and other of one song: (2, time) each, at the same level; whatever a stem's part is."""
    score = read_midi(library.songs[rng.integers(len(library.songs))])
    stretch = rng.uniform(0.75, 1.2)
    start = rng.uniform(8, score.end - seconds)
    shift = int(rng.integers(-5, 7))
    beat = score.beat * stretch
    while beat > 0.75:
        beat /= 2
    parts = {
        name: [
            Note((n.start - start) * stretch, n.length * stretch, n.pitch + shift, n.velocity)
            for n in notes
            if 0 <= (n.start - start) * stretch < seconds
        ]
        for name, notes in score.tracks.items()
    }
    chords = _chords(parts["PIANO"], beat * 2, seconds)
    offset = chords[0][0] % (4 * beat) if chords else 0.0
    return {
        "drums": make_drums(library, rng, beat, offset, seconds),
        "bass": _bass(library, rng, chords, beat, seconds),
        "other": _others(library, rng, parts, chords, beat, seconds),
    }


Chord = tuple[float, float, list[int]]  # start, length, pitches from the lowest


def _chords(notes: list[Note], step: float, seconds: float) -> list[Chord]:
    """Find what sounds in each `step` of an accompaniment."""
    chords: list[Chord] = []
    first = notes[0].start if notes else 0.0
    for i in range(int((seconds - first) / step)):
        start = first + i * step
        sounding = [n for n in notes if n.start < start + step - 0.05 and n.start + n.length > start + 0.05]
        pitches = sorted({n.pitch for n in sounding})
        if pitches:
            chords.append((start, step, pitches))
    return chords


# Bass


def _bass(library: Library, rng: np.random.Generator, chords: list[Chord], beat: float, seconds: float) -> Tensor:
    out = torch.zeros(1, int(seconds * RATE))
    synthetic = rng.random() < 0.35 or not library.basses
    instrument = synthesizer(rng, 24, 56, pure=0.4) if synthetic else library.basses[rng.integers(len(library.basses))]
    low = int(rng.integers(26, 34))
    notes = _bass_line(rng, chords, beat, low)
    for n in notes:
        x = instrument.note(n.pitch, n.length, n.velocity, rng).mean(0, keepdim=True)
        play(out, x, n.start + rng.normal(0, 0.004))
    out = fx.level(out)
    if rng.random() < 0.35:
        out = fx.level(fx.drive(out, float(np.exp(rng.uniform(0, 3)))))
    out = fx.random_equaliser(out, rng, 3)
    out = fx.equalise(out, [45, 100, 300, 1000], [-6, rng.uniform(0, 8), 0, rng.uniform(-6, 0)])
    if rng.random() < 0.5:  # dark
        out = fx.equalise(out, [300, rng.uniform(500, 2500), 8000], [0, -6, -40])
    if rng.random() < 0.85:
        out = fx.compress(fx.level(out), rng.uniform(-42, -24), rng.uniform(3, 10))
    out = fx.chorus(out, rng, 0.003, 0.4) if rng.random() < 0.08 else out.expand(2, -1)
    return fx.level(out)


def _bass_line(rng: np.random.Generator, chords: list[Chord], beat: float, low: int) -> list[Note]:
    """Roots, fifths and octaves of the chords, in one rhythm a song; now and then a rest or a run.

    Most lines are legato, and compressed later: what is low and goes on is a bass, and what is low and stops a kick.
    """
    patterns: list[list[tuple[float, float]]] = [
        [(0, 2)],
        [(0, 1), (1, 1)],
        [(0, 0.5), (0.5, 0.5), (1, 0.5), (1.5, 0.5)],
        [(0, 1.5), (1.5, 0.5)],
        [(0, 0.75), (0.75, 0.75), (1.5, 0.5)],
        [(0, 0.75), (0.75, 0.75), (1.5, 0.25), (1.75, 0.25)],
        [(i / 4, 0.25) for i in range(8)],
        [(0.5, 0.5), (1.5, 0.5)],
    ]
    pattern = patterns[rng.choice(len(patterns), p=[0.2, 0.15, 0.2, 0.15, 0.1, 0.05, 0.1, 0.05])]
    moves = rng.choice([0, 0, 0, 7, 12, -5, 2, 5], size=len(pattern))
    moves[0] = 0
    short = rng.uniform(0.5, 1.0) if rng.random() < 0.2 else 1.02  # staccato, or legato
    notes = []
    for start, _, pitches in chords:
        if rng.random() < 0.02:
            continue
        root = low + (pitches[0] - low) % 12
        steps = rng.choice([0, 3, 5, 7, 10, 12], size=len(pattern)) if rng.random() < 0.12 else moves
        for (at, length), move in zip(pattern, steps, strict=True):
            notes.append(Note(start + at * beat, length * beat * short, root + int(move), float(rng.uniform(0.55, 1))))
    return notes


# Everything else


def _others(
    library: Library,
    rng: np.random.Generator,
    parts: dict[str, list[Note]],
    chords: list[Chord],
    beat: float,
    seconds: float,
) -> Tensor:
    """Two to five layers, each with its own part, instrument, place, effects and sections in which it plays."""
    out = torch.zeros(2, int(seconds * RATE))
    arrangers: list[Callable[[], list[Note]]] = [
        lambda: [n for n in parts["PIANO"] if n.pitch > 47 or rng.random() < 0.5],
        lambda: _pads(rng, chords),
        lambda: _strums(rng, chords, beat),
        lambda: _power_chords(rng, chords, beat),
        lambda: _arpeggio(rng, chords, beat),
        lambda: parts.get("BRIDGE", []),
        lambda: [Note(n.start, n.length, n.pitch - 12 * int(rng.integers(0, 2)), n.velocity) for n in parts["MELODY"]],
    ]
    odds = np.array([0.25, 0.15, 0.2, 0.15, 0.1, 0.1, 0.05])
    for layer in rng.choice(len(arrangers), size=int(rng.integers(2, 6)), replace=True, p=odds):
        notes = arrangers[layer]()
        if not notes:
            continue
        section = 16 * beat
        resting = {i for i in range(int(seconds / section) + 1) if rng.random() < 0.2}
        notes = [n for n in notes if int(n.start / section) not in resting]
        guitar = layer in (2, 3)
        x = _perform(_other_instrument(library, rng, guitar), notes, rng, seconds)
        if x.square().sum() == 0:
            continue
        x = _effects(fx.level(x), rng, dirty=layer == 3 or (guitar and rng.random() < 0.3))
        out += x * 10 ** (rng.normal(0, 4) / 20)
    return fx.level(out)


def _other_instrument(library: Library, rng: np.random.Generator, guitar: bool) -> Instrument:
    guitars = [i for i in library.others if "guitar" in i.name]
    if guitar and guitars and rng.random() < 0.9:
        return guitars[rng.integers(len(guitars))]
    if rng.random() < 0.3 or not library.others:
        return synthesizer(rng, 36, 92)
    return library.others[rng.integers(len(library.others))]


def _perform(instrument: Instrument, notes: list[Note], rng: np.random.Generator, seconds: float) -> Tensor:
    stereo = any(shot.audio.shape[0] == 2 for shot in instrument.shots)
    out = torch.zeros(2 if stereo else 1, int(seconds * RATE))
    low, high = min(s.pitch for s in instrument.shots) - 4, max(s.pitch for s in instrument.shots) + 4
    loose = rng.uniform(0.002, 0.012)
    for n in notes:
        pitch = n.pitch
        while pitch < low:
            pitch += 12
        while pitch > high:
            pitch -= 12
        play(out, instrument.note(pitch, n.length, n.velocity, rng), n.start + rng.normal(0, loose))
    return out


def _effects(x: Tensor, rng: np.random.Generator, dirty: bool) -> Tensor:
    """From an instrument to its place in the mix."""
    if dirty:
        x = fx.level(fx.drive(x, float(np.exp(rng.uniform(1.5, 4.5)))))
        x = fx.equalise(x, [60, 120, 700, 2500, 4500, 7000], [-20, 0, -3, 2, -3, -30])  # the loudspeaker
    x = fx.random_equaliser(x, rng, 3.5)
    if rng.random() < 0.5:
        x = fx.equalise(x, [rng.uniform(60, 250), 350], [-18, 0])  # room for the bass
    if rng.random() < 0.3:
        x = fx.compress(fx.level(x), -22, 3)
    if x.shape[0] == 1 and rng.random() < 0.4:  # doubled, left and right
        x = torch.stack([x[0], torch.roll(x[0], int(rng.uniform(300, 1200)))])
    else:
        x = fx.pan(x, rng.uniform(-0.8, 0.8))
    if rng.random() < 0.25:
        x = fx.chorus(x, rng)
    if rng.random() < 0.15:
        x = fx.echo(x, rng.uniform(0.15, 0.5), rng.uniform(0.2, 0.5), rng.uniform(0.15, 0.4))
    return fx.sometimes_room(x, rng)


def _pads(rng: np.random.Generator, chords: list[Chord]) -> list[Note]:
    shift = 12 * int(rng.integers(0, 2))
    return [Note(s, d * 1.1, p + shift, 0.6) for s, d, pitches in chords for p in pitches[-4:] if p > 40]


def _strums(rng: np.random.Generator, chords: list[Chord], beat: float) -> list[Note]:
    grid = rng.random(4) < 0.75
    grid[0] = True
    spread = rng.uniform(0.004, 0.025)
    notes = []
    for start, _, pitches in chords:
        classes = sorted({p % 12 for p in pitches})
        voicing = [p for p in range(45, 77) if p % 12 in classes][:6]
        for i in np.flatnonzero(grid):
            order = voicing if i % 2 == 0 else voicing[::-1]
            at = start + i * beat / 2
            notes += [Note(at + k * spread, beat * 0.9, p, float(rng.uniform(0.4, 0.9))) for k, p in enumerate(order)]
    return notes


def _power_chords(rng: np.random.Generator, chords: list[Chord], beat: float) -> list[Note]:
    step = float(rng.choice([0.5, 0.5, 1, 2])) * beat
    held = rng.uniform(0.4, 1.0)
    low = int(rng.integers(38, 45))
    notes = []
    for start, length, pitches in chords:
        root = low + (pitches[0] - low) % 12
        for i in range(round(length / step)):
            velocity = 0.9 if i == 0 else float(rng.uniform(0.5, 0.9))
            notes += [Note(start + i * step, step * held, root + k, velocity) for k in (0, 7, 12)]
    return notes


def _arpeggio(rng: np.random.Generator, chords: list[Chord], beat: float) -> list[Note]:
    step = beat / int(rng.choice([2, 4]))
    shift = 12 * int(rng.integers(-1, 2))
    notes = []
    for start, length, pitches in chords:
        top = pitches[-5:]
        for i in range(int(length / step)):
            notes.append(Note(start + i * step, step * 1.5, top[i % len(top)] + shift, float(rng.uniform(0.5, 0.9))))
    return notes
