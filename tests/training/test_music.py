"""Instruments, drums, songs and singing: music from scores and samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from separate.errors import InputError
from separate.training.corpus import Clip, decode, read_manifest
from separate.training.instruments import Instrument, Shot, play, synthesizer
from separate.training.library import Library, build_library
from separate.training.singing import Voices, make_vocals
from separate.training.synth import make_song
from tests.training.corpora import RATE, midi_file, struck, tone


@pytest.fixture(scope="module")
def library(corpus: Path) -> Library:
    return build_library(read_manifest(corpus), 6.0)


def pitch_of(x: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(x.mean(0) * torch.hann_window(x.shape[1])).abs()
    return 69 + 12 * float(np.log2(float(spectrum.argmax()) * RATE / x.shape[1] / 440))


def test_manifest_leaves_out_what_is_not_licensed(corpus: Path) -> None:
    clips = read_manifest(corpus)
    assert clips
    assert all("research" not in clip.path.parts for clip in clips)
    assert [clip.path.name for clip in read_manifest(corpus, licensed="research")] == ["vocals.wav"]
    with pytest.raises(InputError, match=r"manifest\.csv: cannot be read"):
        read_manifest(corpus / "midi")


def test_a_manifest_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,pitch_midi\na.wav,60\nb.wav,high\n")
    with pytest.raises(InputError, match=r"manifest\.csv, line 3: .*'high'"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_text("file,stem\na.wav,bass\n")
    with pytest.raises(InputError, match=r"manifest\.csv, line 2: lacks 'path'"):
        read_manifest(tmp_path)


def test_manifests_as_spreadsheets_write_them(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,stem\na.wav,bass\n", "utf-8-sig")
    assert [clip.path.name for clip in read_manifest(tmp_path)] == ["a.wav"]
    (tmp_path / "manifest.csv").write_text("path,stem\nG\xe9rard.wav,bass\n", "latin-1")
    with pytest.raises(InputError, match=r"manifest\.csv: is not a table in UTF-8"):
        read_manifest(tmp_path)


def test_decode_says_what_it_cannot_read(corpus: Path, tmp_path: Path) -> None:
    assert decode(corpus / "drums/kick.wav").shape == (1, int(0.2 * RATE))
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(InputError, match=r"a\.wav"):
        decode(tmp_path / "a.wav")


def test_library_sorts_the_corpus(library: Library) -> None:
    assert set(library.drums) >= {"kick", "snare", "hihat-closed"}
    assert set(library.percussion) == {"shaker"}
    assert [(i.name, len(i.shots)) for i in library.basses + library.others] == [("guitar", 5), ("guitar", 5)]
    assert [path.name for path in library.grooves + library.songs] == ["groove.mid", "song.mid"]
    with pytest.raises(InputError, match="no drum hits"):
        build_library([], 6.0)


def test_a_corrupt_sample_is_named_and_left_out(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "kick.wav").write_text("no sound")
    broken = Clip(tmp_path / "kick.wav", "drums", "one-shot", "kick", None, "mine", "permissive", 0.1)
    said: list[str] = []
    library = build_library([broken, *read_manifest(corpus)], 6.0, said.append)
    assert set(library.drums["kick"]) == {"ours"}
    assert len(said) == 1
    assert said[0].startswith(f"skipped {tmp_path}/kick.wav")


def test_scores_of_which_no_song_can_be_made(corpus: Path, tmp_path: Path) -> None:
    clips, said = read_manifest(corpus), list[str]()
    with pytest.raises(InputError, match=r"no scores of more than 120 s with tracks MELODY and PIANO"):
        build_library(clips, 100.0, said.append)
    (tmp_path / "broken.mid").write_bytes(b"MThd")
    broken = Clip(tmp_path / "broken.mid", "mix", "song", "", None, "mine", "permissive", 0)
    library = build_library([*clips, broken], 6.0, said.append)
    assert [path.name for path in library.songs] == ["song.mid"]
    assert [line.startswith(f"skipped {tmp_path}/broken.mid") for line in said] == [True]
    midi_file(tmp_path / "short.mid", [("Drums", [e for i in range(20) for e in struck(i * 120, 36, 60, 9)])])
    short = [replace(c, path=tmp_path / "short.mid") if c.path.name == "groove.mid" else c for c in clips]
    with pytest.raises(InputError, match=r"no drum patterns of more than 16 hits and 6 s"):
        build_library(short, 6.0, said.append)


def test_few_sounds_are_enough(corpus: Path) -> None:
    """What a kit lacks is computed, and so are instruments; names need only begin as roles do."""
    names = {"kick.wav": "kick-808", "hihat-closed.wav": "hihat"}
    clips = [
        replace(clip, instrument=names.get(clip.path.name, clip.instrument))
        for clip in read_manifest(corpus)
        if clip.path.suffix == ".mid" or clip.path.name in names
    ]
    library = build_library(clips, 6.0)
    assert set(library.drums) == {"kick", "hihat-closed"}
    assert not library.others
    assert not library.basses
    for seed in range(2):
        made = make_song(library, np.random.default_rng(seed), 3.0)
        assert all(x.square().mean().sqrt() > 0.01 for x in made.values())
    without = build_library([clip for clip in clips if clip.path.name != "kick.wav"], 6.0)
    assert make_song(without, np.random.default_rng(0), 3.0)["drums"].any()


@pytest.mark.parametrize("pitch", [57, 60, 66])
def test_an_instrument_plays_any_pitch_for_any_time(pitch: int) -> None:
    x = torch.from_numpy(tone(60, 2.0)).float()[None]
    instrument = Instrument("bell", (Shot(x, 60, 0.1),))
    note = instrument.note(pitch, 0.5, 0.8, np.random.default_rng(0))
    assert note.shape[1] / RATE == pytest.approx(0.5 + 0.08, abs=0.001)
    assert pitch_of(note) == pytest.approx(pitch, abs=0.4)
    assert abs(float(note[0, -1])) < 1e-4  # it fades, it is not cut


def test_harder_is_louder() -> None:
    x = torch.from_numpy(tone(60, 1.0)).float()[None]
    instrument = Instrument("bell", (Shot(x, 60, 0.1),))
    soft, hard = (instrument.note(60, 0.5, v, np.random.default_rng(0)).square().mean() for v in (0.3, 0.9))
    assert hard > 4 * soft


def test_a_synthesizer_is_in_tune() -> None:
    for seed in range(4):
        instrument = synthesizer(np.random.default_rng(seed), 48, 72)
        note = instrument.note(60, 1.0, 0.8, np.random.default_rng(0))
        low = torch.fft.rfft(note.mean(0) * torch.hann_window(note.shape[1])).abs()
        f = torch.arange(len(low)) * RATE / note.shape[1]
        fundamental = float(f[(low * ((f > 200) & (f < 330))).argmax()])
        assert fundamental == pytest.approx(261.6, rel=0.015)


def test_play_cuts_at_the_end() -> None:
    out = torch.zeros(2, 100)
    play(out, torch.ones(1, 50), 80 / RATE)
    play(out, torch.ones(1, 50), 1.0)  # beyond the end
    assert out[:, :80].sum() == 0
    assert out[:, 80:].sum() == 40


def test_a_song_is_the_same_for_the_same_seed(library: Library) -> None:
    first, again, other = (make_song(library, np.random.default_rng(seed), 6.0) for seed in (1, 1, 2))
    assert set(first) == {"drums", "bass", "other"}
    for stem, x in first.items():
        assert x.shape == (2, 6 * RATE)
        assert bool(x.isfinite().all())
        assert torch.equal(x, again[stem])
        assert not torch.equal(x, other[stem])
        assert x.square().mean().sqrt() > 0.01, f"{stem} is silent"


def test_bass_is_low(library: Library) -> None:
    bass = make_song(library, np.random.default_rng(3), 6.0)["bass"]
    power = torch.fft.rfft(bass.mean(0)).abs().square()
    assert power[: 500 * 6].sum() > 0.7 * power.sum()


def test_vocals_have_phrases_and_rests() -> None:
    clip = torch.from_numpy(tone(69, 5.0)).float()[None]
    voices = Voices([[clip], [clip * 0.5]], [0.7, 0.3])
    first, again = (make_vocals(voices, np.random.default_rng(5), 20.0) for _ in range(2))
    assert first.shape == (2, 20 * RATE)
    assert torch.equal(first, again)
    loudness = first.square().mean(0).unfold(0, RATE // 4, RATE // 4).mean(1).sqrt()
    assert loudness.max() > 0.05
    assert loudness.min() < 0.02
