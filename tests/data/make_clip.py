"""Compose clip.flac: ten seconds of a small pop song, every sound of it computed here.

    python tests/data/make_clip.py                 # writes clip.flac beside this script
    python tests/data/make_clip.py --stems DIR     # and its four stems, as WAV files that sum to it

The voice is a chain of glottal pulses in a vocal tract: harmonics of a gliding pitch, each as loud as five formants let
it be. Their targets change from phone to phone; consonants are noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

Sound = NDArray[np.float64]  # (time,) or (2, time)
Noise = np.random.RandomState  # old, but NumPy promises that its numbers never change

RATE = 44100
BEAT = 60 / 96  # seconds
SECONDS = 10.5  # four bars, and what rings after them
STEP = 64  # samples between two values of what changes slowly in the voice

CHORDS = (
    (0, 48, (60, 64, 67)),
    (4, 45, (57, 60, 64)),
    (8, 41, (57, 60, 65)),
    (10, 43, (59, 62, 67)),
    (12, 48, (60, 64, 67)),
)
"""Beat, bass note and notes: C, A minor, F, G, C."""


class Phone(NamedTuple):
    """One sound of speech."""

    formants: tuple[int, ...] = ()  # the first three, Hz; none: those of the next phone
    level: float = 1.0  # of the voice
    seconds: float = 0.0  # vowels have none: they last as long as the note lets them
    noise: float = 0.0
    band: tuple[int, int] = (0, 0)  # of the noise, Hz


PHONES = {
    "i": Phone((330, 2450, 3150)),
    "e": Phone((560, 2150, 2950)),
    "a": Phone((830, 1300, 2750)),
    "o": Phone((510, 900, 2650)),
    "u": Phone((370, 950, 2600)),
    "@": Phone((580, 1550, 2800)),
    "m": Phone((270, 1050, 2250), 0.35, 0.09),
    "n": Phone((270, 1550, 2550), 0.35, 0.08),
    "l": Phone((360, 1150, 2800), 0.5, 0.07),
    "w": Phone((320, 720, 2350), 0.5, 0.07),
    "y": Phone((280, 2450, 3200), 0.5, 0.07),
    "s": Phone((), 0.0, 0.11, 0.075, (5200, 10500)),
    "S": Phone((), 0.0, 0.11, 0.09, (2400, 6500)),
    "f": Phone((), 0.0, 0.09, 0.03, (2500, 9000)),
    "d": Phone((), 0.05, 0.05, 0.05, (2500, 5500)),
    "h": Phone((), 0.0, 0.07, 0.02, (900, 5000)),
    "-": Phone((), 0.0),  # a rest
}

# Beat, beats, MIDI note and phones: "Sing me a song, long as the sun will shine, and I will follow you home."
MELODY = (
    (0.5, 0.5, 67, "sin"), (1.0, 0.5, 64, "mi"), (1.5, 0.5, 67, "@"), (2.0, 1.5, 69, "son"),
    (4.0, 0.5, 69, "lon"), (4.5, 0.5, 72, "as"), (5.0, 0.5, 72, "d@"), (5.5, 1.0, 71, "s@n"),
    (6.5, 0.5, 67, "wil"), (7.0, 0.75, 64, "Sain"), (8.0, 0.5, 65, "an"), (8.5, 0.5, 69, "ai"),
    (9.0, 1.0, 72, "wil"), (10.0, 0.5, 71, "fol"), (10.5, 0.5, 69, "lo"), (11.0, 1.0, 71, "yu"),
    (12.0, 3.2, 72, "houm"),
)  # fmt: skip


def seconds(length: float) -> Sound:
    """Return the times of the samples of a sound."""
    return np.arange(round(length * RATE)) / RATE


def hz(note: float) -> float:
    """Return the frequency of a MIDI note."""
    return float(440 * 2 ** ((note - 69) / 12))


def add(track: Sound, sound: Sound, beat: float, gain: float = 1.0) -> None:
    """Add a sound to a track at a beat; what hangs over the end is cut."""
    at = round(beat * BEAT * RATE)
    part = sound[..., : track.shape[-1] - at]
    track[..., at : at + part.shape[-1]] += gain * part


def pan(sound: Sound, place: float) -> Sound:
    """Place a mono sound between left (-1) and right (1), as loud everywhere."""
    angle = (place + 1) * np.pi / 4
    return np.stack([np.cos(angle) * sound, np.sin(angle) * sound])


def hiss(rng: Noise, length: float, low: float, high: float) -> Sound:
    """Make noise between two frequencies, with edges a third of an octave wide."""
    noise = rng.standard_normal(round(length * RATE))
    octave = np.log2(np.maximum(np.fft.rfftfreq(len(noise), 1 / RATE), 1.0))
    edges = np.clip(3 * (octave - np.log2(low)) + 1, 0, 1) * np.clip(3 * (np.log2(high) - octave) + 1, 0, 1)
    noise = np.fft.irfft(np.fft.rfft(noise) * edges, len(noise))
    noise /= np.sqrt(np.mean(noise**2))
    return noise


def reverb(sound: Sound, rng: Noise, decay: float, share: float) -> Sound:
    """Add a room to a sound (2, time): noise that decays by 60 dB in `decay` seconds."""
    t = seconds(decay)
    room = np.stack([hiss(rng, decay, 300, 4500), hiss(rng, decay, 300, 4500)]) * np.exp(-6.9 * t / decay)
    room *= t > 0.012
    room /= np.sqrt(np.sum(room**2, axis=1, keepdims=True))
    size = sound.shape[1] + room.shape[1]
    wet = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(room, size), size)[:, : sound.shape[1]]
    return sound + share * wet


def drums(rng: Noise, track: Sound) -> Sound:
    """Play kick, snare and hats."""
    t = seconds(0.45)
    kick = np.sin(2 * np.pi * (48 * t + 6 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.11)
    kick += 0.15 * np.exp(-t / 0.003) * hiss(rng, 0.45, 1500, 5000)
    t = seconds(0.3)
    snare = 0.5 * np.sin(2 * np.pi * (185 * t + 1.2 * (1 - np.exp(-t / 0.02)))) * np.exp(-t / 0.06)
    snare += 0.3 * np.exp(-t / 0.07) * hiss(rng, 0.3, 700, 9000)
    for beat in (0, 2.5, 4, 6.5, 8, 10.5, 12):
        add(track, pan(kick, 0), beat, 1.1)
    for beat in (1, 3, 5, 7, 9, 11, 11.5, 11.75):
        add(track, pan(snare, 0.05), beat, 0.9 if beat % 1 == 0 else 0.5)
    for half in range(24):
        ring = 0.12 if half % 8 == 7 else 0.03
        hat = hiss(rng, 4 * ring, 6500, 13000) * np.exp(-seconds(4 * ring) / ring)
        add(track, pan(hat, 0.35), half / 2 + rng.uniform(0, 0.008), 0.12 if half % 2 else 0.08)
    crash = hiss(rng, 2.0, 4000, 11000) * np.exp(-seconds(2.0) / 0.5)
    add(track, pan(crash, -0.3), 12, 0.07)
    return reverb(track, rng, 0.5, 0.1)


def tone(note: float, length: float, slope: float, ring: float, dull: float) -> Sound:
    """Play a string: harmonic k starts at k^-slope and rings for `ring` seconds, the higher ones shorter by `dull`."""
    t = seconds(length)
    sound = np.zeros(len(t))
    for k in range(1, min(40, int(9000 / hz(note))) + 1):
        sound += k**-slope * np.exp(-t * (1 + dull * (k - 1)) / ring) * np.sin(2 * np.pi * k * hz(note) * t)
    release = np.clip((length - t) / 0.05, 0, 1)
    return sound * np.clip(t / 0.004, 0, 1) * release


def bass(track: Sound) -> Sound:
    """Play the roots in eighths, with a step up to the next chord."""
    for (beat, root, _), following in zip(CHORDS, [*CHORDS[1:], None], strict=True):
        end = following[0] if following else 16
        if following is None:
            add(track, pan(tone(root - 12, 3.3 * BEAT, 1.2, 1.6, 0.5), 0), beat, 0.34)
            continue
        for half in range(2 * (end - beat)):
            note = root - 12 + (12 if half in (3, 6) else 0)
            if half == 2 * (end - beat) - 1:
                note = following[1] - 12 + (2 if following[1] < root else -1)
            add(track, pan(tone(note, 0.46 * BEAT, 1.2, 0.5, 0.5), 0), beat + half / 2, 0.34)
    return track


def chords(rng: Noise, track: Sound) -> Sound:
    """Play a plucked figure on the left and right, and a soft organ below it."""
    for (beat, _, notes), end in zip(CHORDS, [4, 8, 10, 12, 16], strict=True):
        for half in range(2 * (end - beat) if end < 16 else 1):
            for voice, note in enumerate(notes if half % 4 == 0 else [notes[(half * 2 + 1) % 3] + 12]):
                string = tone(note, 1.6 if end < 16 else 2.2, 1.4, 0.55, 0.35)
                place = (-0.6, 0.1, 0.6)[voice] if half % 4 == 0 else (-0.5 if half % 2 else 0.5)
                add(track, pan(string, place), beat + half / 2 + 0.015 * voice, 0.16)
        t = seconds((end - beat) * BEAT if end < 16 else 3.4 * BEAT)
        swell = np.clip(t / 0.12, 0, 1) * np.clip((t[-1] - t) / 0.15, 0, 1)
        for note in notes:
            for cents, place in ((-5, -0.8), (5, 0.8)):
                phase = 2 * np.pi * hz(note + cents / 100) * t + rng.uniform(0, 6)
                organ = np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.15 * np.sin(3 * phase)
                add(track, pan(organ * swell, place), beat, 0.04)
    return reverb(track, rng, 1.2, 0.25)


class Segment(NamedTuple):
    """A phone in its place; it lasts until the next one."""

    start: float
    phone: Phone
    note: float


def segments() -> list[Segment]:
    """Place the phones of the melody: consonants before the beat, vowels on it, as singers do."""
    out = [Segment(0.0, PHONES["-"], MELODY[0][2])]
    for i, (beat, beats, note, text) in enumerate(MELODY):
        phones = [PHONES[letter] for letter in text]
        vowels = [p for p in phones if not p.seconds]
        first = phones.index(vowels[0])
        begin, end = beat * BEAT, (beat + beats) * BEAT
        if i + 1 < len(MELODY):
            following = [PHONES[letter] for letter in MELODY[i + 1][3]]
            onset = sum(p.seconds for p in following[: [bool(p.seconds) for p in following].index(False)])
            end = min(end, MELODY[i + 1][0] * BEAT - onset)
        at = begin - sum(p.seconds for p in phones[:first])
        coda = sum(p.seconds for p in phones[first:])
        for phone in phones:
            out.append(Segment(at, phone, note))
            at += phone.seconds or (end - begin - coda) / len(vowels)
        out.append(Segment(at, PHONES["-"], note))
    return out


def voice(rng: Noise, track: Sound) -> Sound:
    """Sing the melody."""
    parts = segments()
    t = np.arange(0, track.shape[1] + STEP, STEP) / RATE
    index = np.searchsorted([part.start for part in parts], t, side="right") - 1
    formants = smooth(np.array(list(targets(parts)))[index].T, 0.05)  # (formant, step)
    level = smooth(np.array([[part.phone.level for part in parts]])[:, index], 0.045)[0]
    onsets = np.maximum.accumulate(np.where(np.diff(index, prepend=-1) > 0, t, 0))
    vibrato = 0.3 * np.clip((t - smooth(onsets[None], 0.1)[0] - 0.25) / 0.3, 0, 1) * np.sin(2 * np.pi * 5.6 * t)
    drift = smooth(rng.standard_normal((1, len(t))), 0.15)[0]
    note = smooth(np.array([[part.note for part in parts]])[:, index], 0.07)[0] + vibrato + 0.5 * drift
    pitch = 440 * 2 ** ((note - 69) / 12)
    samples = np.arange(track.shape[1]) / RATE
    phase = 2 * np.pi * np.cumsum(np.interp(samples, t, pitch)) / RATE
    sound = np.zeros(track.shape[1])
    for k in range(1, 36):
        gain = level * k**-0.75 * tract(k * pitch, formants) * np.clip((10000 - k * pitch) / 1000, 0, 1)
        real, imaginary = np.interp(samples, t, gain.real), np.interp(samples, t, gain.imag)
        sound += real * np.cos(k * phase) - imaginary * np.sin(k * phase)
    sound *= 0.075
    breath = hiss(rng, SECONDS, 2500, 9000)
    sound += 0.003 * breath * np.interp(samples, t, level) * (1 + np.cos(phase))
    for part, following in pairwise(parts):
        if part.phone.noise:
            length = following.start - part.start + 0.03
            envelope = np.sin(np.pi * seconds(length) / length) ** 1.5
            add(sound, hiss(rng, length, *part.phone.band) * envelope, part.start / BEAT, part.phone.noise * 0.6)
    return reverb(pan(sound, 0), rng, 1.4, 0.2)


def targets(parts: Sequence[Segment]) -> Iterator[tuple[int, ...]]:
    """Yield the formants that each segment aims at; what has none is ready for the next one."""
    for i in range(len(parts)):
        ready = [part.phone.formants for part in parts[i:] if part.phone.formants]
        last = [part.phone.formants for part in parts[:i] if part.phone.formants]
        yield (ready or last[-1:])[0]


def smooth(values: Sound, length: float) -> Sound:
    """Average (row, step) over about `length` seconds, as muscles do."""
    half = max(1, round(length * RATE / STEP))
    window = np.hanning(2 * half + 1)
    padded = np.pad(values, ((0, 0), (half, half)), mode="edge")
    return np.stack([np.convolve(row, window / window.sum(), mode="valid") for row in padded])


def tract(frequency: Sound, formants: Sound) -> NDArray[np.complex128]:
    """Return what the vocal tract makes of a tone: one resonance a formant, H(f) = 1 / (1 - (f/F)² + i f B/F²)."""
    response = np.ones(len(frequency), dtype=np.complex128)
    fixed = [np.full(len(frequency), value) for value in (3550.0, 4500.0)]
    for centre, width in zip([*formants, *fixed], (110, 110, 130, 170, 250), strict=True):
        response /= 1 - (frequency / centre) ** 2 + 1j * frequency * width / centre**2
    return response


def compose() -> dict[str, Sound]:
    """Return the four stems (2, time); their sum is the song."""

    def silence() -> Sound:
        return np.zeros((2, round(SECONDS * RATE)))

    stems = {
        "vocals": voice(Noise(1), silence()),
        "drums": drums(Noise(2), silence()),
        "bass": bass(silence()),
        "other": chords(Noise(3), silence()),
    }
    gain = 0.8 / np.abs(sum(stems.values())).max() * np.clip((SECONDS - seconds(SECONDS)) / 0.4, 0, 1)
    return {name: stem * gain for name, stem in stems.items()}


def main() -> None:
    """Write the clip, and its stems if they are asked for."""
    parser = argparse.ArgumentParser(description="Compose clip.flac.")
    parser.add_argument("--stems", type=Path, metavar="DIR", help="write the stems there too")
    folder: Path | None = parser.parse_args().stems
    stems = compose()
    mix = sum(stems.values(), np.zeros(1))
    soundfile.write(Path(__file__).with_name("clip.flac"), np.rint(mix.T * 2**15).astype(np.int16), RATE)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        for name, stem in stems.items():
            soundfile.write(folder / f"{name}.wav", stem.T, RATE, "PCM_24")


if __name__ == "__main__":
    main()
