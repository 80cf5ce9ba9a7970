"""Drum tracks: played or programmed patterns on kits put together from one-shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from separate.training import augment as fx
from separate.training.drum_machine import machine_hits
from separate.training.instruments import Shot, play
from separate.training.library import Library
from separate.training.midi import Note, read_midi

__all__ = ["make_drums"]

RATE = fx.RATE

# General MIDI drums -> what to strike, in order of preference
_ROLES: dict[int, tuple[str, ...]] = (
    dict.fromkeys((35, 36), ("kick",))
    | dict.fromkeys((38, 40), ("snare",))
    | {37: ("snare-sidestick", "rim", "snare"), 39: ("clap", "snare")}
    | dict.fromkeys((41, 43, 45, 47, 48, 50, 58), ("tom",))
    | dict.fromkeys((26, 46), ("hihat-open", "hihat-half-open"))
    | dict.fromkeys((22, 42), ("hihat-closed",))
    | {44: ("hihat-pedal", "hihat-closed")}
    | dict.fromkeys((49, 52, 55, 57), ("crash",))
    | dict.fromkeys((51, 53, 59), ("ride", "hihat-closed"))
)


def make_drums(library: Library, rng: np.random.Generator, beat: float, offset: float, seconds: float) -> Tensor:
    """Make the drum track of a song whose bars begin `offset` seconds in: (2, time)."""
    hits = _programmed(rng, beat) if rng.random() < 0.4 else _played(library, rng, beat)
    kit = _Kit(library, rng)
    buses = {name: torch.zeros(2, int(seconds * RATE)) for name in ("kick", "snare", "tom", "metal")}
    length = max(4 * beat, np.ceil(max(n.start for n in hits) / (4 * beat)) * 4 * beat)
    start, swing = offset - 4 * beat, rng.uniform(0, 0.006)
    while start < seconds:
        quiet = rng.random() < 0.07  # a break
        for n in hits:
            if not quiet or n.pitch in (42, 44, 46):
                kit.strike(buses, n, start + n.start + rng.normal(0, swing))
        start += length
    percussion = _percussion(library, rng, beat, offset, seconds)
    drums = torch.zeros(2, int(seconds * RATE))
    for bus, db in zip(buses.values(), rng.normal(0, 3, 4), strict=True):
        drums += fx.sometimes_room(fx.random_equaliser(bus, rng, 2), rng) * float(10 ** (db / 20))
    drums = fx.level(fx.random_equaliser(drums, rng, 2.5)) + percussion
    if rng.random() < 0.3:  # what microphones far from the kit hear
        drums = fx.level(fx.sometimes_room(drums, rng))
    if rng.random() < 0.8:
        drums = fx.level(fx.compress(drums, rng.uniform(-30, -14), rng.uniform(2, 8)))
    if rng.random() < 0.3:
        drums = fx.drive(drums, rng.uniform(1, 6))
    return fx.level(drums)


class _Kit:
    """One drum kit: for every role the hits of one collection, or of a machine, tuned, placed and damped as drawn."""

    def __init__(self, library: Library, rng: np.random.Generator) -> None:
        self.library, self.rng = library, rng
        kits = sorted(library.drums.get("kick") or {kit for kits in library.drums.values() for kit in kits})
        weights = np.array([4.0 if kit in ("muldjord", "gogodze") else 2.0 if "-" not in kit else 1.0 for kit in kits])
        self.kit = kits[rng.choice(len(kits), p=weights / weights.sum())]
        self.mixed = rng.random() < 0.4
        self.machine = float(rng.choice([0.1, 0.1, 0.5, 1.0]))  # odds that a role's hits are computed
        self.roles: dict[str, tuple[list[Shot], float, float, float]] = {}

    def role(self, names: tuple[str, ...]) -> tuple[list[Shot], float, float, float]:
        """Draw the hits of a role with their change of speed, gain and place; once."""
        if names[0] not in self.roles:
            rng = self.rng
            there = [name for name in names if name in self.library.drums]
            name = next((name for name in there if self.kit in self.library.drums[name]), (there or names)[-1])
            hits = self.recorded(self.library.drums[name], 4 if name == "tom" else 1) if there else []
            if not hits or rng.random() < self.machine:
                hits = machine_hits(names[0], rng)
            elif name in ("kick", "snare", "tom") and rng.random() < 0.35:
                hits = _damped(hits, float(np.exp(rng.uniform(-3.2, -0.7))))
            if name in ("kick", "snare") and rng.random() < 0.25:
                hits = _layered(hits, machine_hits(name, rng, 1)[0], float(rng.uniform(0.3, 1)))
            gain = 10 ** (rng.normal(0, 3) / 20)
            place = 0.0 if name in ("kick", "snare") else float(rng.uniform(-0.6, 0.6))
            self.roles[names[0]] = hits, 2 ** (rng.normal(0, 2.5) / 12), gain, place
        return self.roles[names[0]]

    def recorded(self, collections: Mapping[str, Sequence[Shot]], count: int) -> list[Shot]:
        """Draw hits of a drum: of this kit, or of any."""
        keys = sorted(collections)
        mine = self.kit in collections and not self.mixed
        kit = self.kit if mine else keys[self.rng.integers(len(keys))]
        hits = sorted(collections[kit], key=lambda shot: shot.loudness)
        if kit in ("muldjord", "gogodze"):  # their hits are one drum at many strengths, others' are many drums
            return hits
        return [hits[i] for i in self.rng.integers(len(hits), size=count)]

    def strike(self, buses: dict[str, Tensor], note: Note, start: float) -> None:
        names = _ROLES.get(note.pitch)
        if not names:
            return
        hits, ratio, gain, place = self.role(names)
        at = note.velocity * len(hits) + self.rng.uniform(-1, 1) - 0.5
        shot = hits[int(min(len(hits) - 1, max(0, at)))]
        if names[0] == "tom":
            ratio *= 2 ** ((note.pitch - 45) / 24)
        x = fx.speed(shot.audio, ratio) * (gain * note.velocity**1.5 / shot.loudness * _WEIGHT.get(names[0], 0.05))
        if names[0] == "hihat-closed":
            x = x[:, : RATE // 4] * torch.linspace(1, 0, min(RATE // 4, x.shape[1]))
        bus = names[0] if names[0] in ("kick", "snare", "tom") else "metal"
        play(buses[bus], fx.pan(x, place), start)


def _damped(hits: list[Shot], seconds: float) -> list[Shot]:
    """Let hits ring no longer than that, as cloth on the skin or a gate does."""
    damped = []
    for shot in hits:
        t = torch.arange(shot.audio.shape[1]) / RATE
        damped.append(Shot((shot.audio * torch.exp(-t / seconds)).half(), shot.pitch, shot.loudness))
    return damped


def _layered(hits: list[Shot], under: Shot, share: float) -> list[Shot]:
    """Put another sound under each hit, as producers do."""
    layered = []
    for shot in hits:
        length = max(shot.audio.shape[1], under.audio.shape[1])
        below = under.audio.float() * (share * shot.loudness / under.loudness)
        x = F.pad(shot.audio.float(), (0, length - shot.audio.shape[1])) + F.pad(below, (0, length - below.shape[1]))
        layered.append(Shot(x.half(), shot.pitch, shot.loudness * (1 + share**2) ** 0.5))
    return layered


# How loud the hits of a role are, beside each other
_WEIGHT = {
    "kick": 0.22,
    "snare": 0.2,
    "tom": 0.16,
    "crash": 0.08,
    "ride": 0.05,
    "hihat-closed": 0.035,
    "hihat-open": 0.05,
}


def _played(library: Library, rng: np.random.Generator, beat: float) -> list[Note]:
    """Take a pattern that a drummer played, stretched so that its beat is ours."""
    score = read_midi(library.grooves[rng.integers(len(library.grooves))])
    notes = next(iter(score.tracks.values()))
    stretch = beat / score.beat
    while stretch > 1.45:
        stretch /= 2
    while stretch < 0.7:
        stretch *= 2
    return [Note(n.start * stretch, n.length, n.pitch, 0.15 + 0.85 * n.velocity) for n in notes if n.start < 60]


def _programmed(rng: np.random.Generator, beat: float) -> list[Note]:
    """Draw a pattern of two bars on a grid of sixteenths, as a drum machine would have it."""
    kick = np.full(32, 0.06)
    kick[::4] = 1.0 if rng.random() < 0.5 else 0.25  # four on the floor, or not
    kick[[0, 16]] = 1.0
    kick[[6, 10, 22, 26]] += rng.uniform(0, 0.5)
    snare = np.full(32, 0.02)
    snare[4::8] = 0.97
    if rng.random() < 0.2:
        snare[4::8], snare[8::16] = 0.02, 0.97  # half time
    step = int(rng.choice([1, 2, 2, 4]))
    hat = np.full(32, 0.05)
    hat[::step] = 0.93
    open_ = np.zeros(32)
    open_[2::4] = rng.choice([0.0, 0.0, 0.3, 0.9])
    swing = rng.choice([0, 0, 0, 0.33]) * beat / 4
    notes = []
    backbeat = int(rng.choice([38, 38, 39]))
    for pitch, odds, low in ((36, kick, 0.8), (backbeat, snare, 0.7), (42, hat, 0.35), (46, open_, 0.4)):
        for i in np.flatnonzero(rng.random(32) < odds):
            notes.append(Note(i * beat / 4 + swing * (i % 2), 0.1, pitch, float(rng.uniform(low, 1))))
    if rng.random() < 0.5:
        notes.append(Note(0.0, 0.1, 49, 0.8))
    return notes


def _percussion(library: Library, rng: np.random.Generator, beat: float, offset: float, seconds: float) -> Tensor:
    """Shakers, tambourines, congas: none to two of them, each with a one-bar pattern of its own."""
    out = torch.zeros(2, int(seconds * RATE))
    names = sorted(library.percussion)
    for name in rng.permutation(names)[: rng.choice([0, 0, 1, 2])]:
        hits = library.percussion[name]
        grid = rng.random(16) * np.tile([1.0, 0.55, 0.8, 0.55], 4)
        place, gain = rng.uniform(-0.8, 0.8), 10 ** (rng.normal(-14, 4) / 20) * 0.3
        same = hits[rng.integers(len(hits))]
        for i in range(int((seconds - offset) / beat * 4)):
            if grid[i % 16] > 0.5:
                shot = hits[rng.integers(len(hits))] if rng.random() < 0.5 else same
                x = shot.audio[:, :RATE].float() * (gain * grid[i % 16] / max(shot.loudness, 0.01))
                play(out, fx.pan(x, place), offset + i * beat / 4)
    return out
