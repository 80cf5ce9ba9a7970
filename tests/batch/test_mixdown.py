"""Files that are sums: what is in them, how loud they get, and that they still add up."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from math import inf

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from separate.batch.job import Output
from separate.batch.mixdown import Mixdown, Mixer
from separate.dsp.loudness import loudness
from tests.conftest import music

RATE = 8000
KARAOKE = Mixdown(("karaoke", "vocals"), {"karaoke": ({"mixture": 1.0, "vocals": -1.0},)})
LEVEL = Mixdown(("karaoke", "vocals"), {"karaoke": ({"mixture": 1.0, "vocals": -1.0},)}, level=True)
Stems = Mapping[str, NDArray[np.float32]]


def song(voice: float, band: float, seconds: float = 2.0) -> dict[str, NDArray[np.float32]]:
    """A song of two stems with these peaks."""
    vocals, rest = 2 * voice * music(seconds, RATE, seed=1), 2 * band * music(seconds, RATE, seed=2)
    return {"mixture": vocals + rest, "vocals": vocals}


def mixed(mixdown: Mixdown, stems: Stems, size: int = 5000) -> tuple[Mixer, dict[str, NDArray[np.float32]]]:
    """All of a song's files, with their gains."""
    mixer = Mixer(mixdown, mixdown.names, RATE)
    length = next(iter(stems.values())).shape[1]
    blocks = [
        mixer.mix({name: stems[name][:, at : at + size] for name in mixer.stems}) for at in range(0, length, size)
    ]
    gains = mixer.gains() if mixdown.rests else dict.fromkeys(mixer.sums, 1.0)
    return mixer, {
        name: np.float32(gains[name]) * np.concatenate([block[name] for block in blocks], 1) for name in mixer.sums
    }


def peak(samples: NDArray[np.float32]) -> float:
    return float(np.abs(samples).max())


def test_bare_stems_pass_unchanged() -> None:
    mixer = Mixer(Mixdown(), ["drums", "vocals"], RATE)
    assert mixer.stems == ["drums", "vocals"]
    stems = {"drums": music(0.1, RATE), "vocals": music(0.1, RATE, seed=1)}
    files = mixer.mix(stems)
    assert all(np.array_equal(files[name], stems[name]) for name in stems)


def test_sums_and_streams() -> None:
    stems = {"a": np.full((2, 3), 0.5, np.float32), "b": np.full((2, 3), 0.25, np.float32)}
    mixer = Mixer(
        Mixdown(("ab", "all"), {"ab": ({"a": 1.0, "b": -0.5},), "all": ({"b": 1.0}, {"a": 1.0})}), ["ab"], RATE
    )
    files = mixer.mix(stems)
    assert np.array_equal(files["ab"], np.full((2, 3), 0.375, np.float32))
    assert np.array_equal(files["all"], np.concatenate([stems["b"], stems["a"]]))


@settings(max_examples=30, deadline=None)
@given(voice=st.floats(0.001, 1), band=st.floats(0.001, 1), size=st.integers(100, 20_000))
def test_what_is_left_is_never_louder_than_the_song_and_all_still_adds_up(voice: float, band: float, size: int) -> None:
    stems = song(voice, band)
    mixer, files = mixed(KARAOKE, stems, size)
    assert peak(files["karaoke"]) <= peak(stems["mixture"]) * 1.0001
    assert mixer.gain <= 1
    assert peak(files["karaoke"] + files["vocals"] - mixer.gain * stems["mixture"]) < 1e-6


def test_a_voice_that_held_a_peak_down_turns_everything_down() -> None:
    band = 0.4 * music(1.0, RATE)
    stems = {"vocals": -0.5 * band, "mixture": 0.5 * band}  # without the voice the band has twice the song's peak
    mixer, files = mixed(KARAOKE, stems)
    assert mixer.gain == pytest.approx(0.5, rel=1e-5)
    assert peak(files["karaoke"]) == pytest.approx(peak(stems["mixture"]), rel=1e-5)
    assert peak(files["vocals"]) == pytest.approx(peak(stems["vocals"]) / 2, rel=1e-5)


@settings(max_examples=10, deadline=None)
@given(voice=st.floats(0.001, 1), band=st.floats(0.02, 1))
def test_level_makes_up_for_the_voice_as_far_as_the_peak_allows(voice: float, band: float) -> None:
    stems = song(voice, band)
    mixer, files = mixed(LEVEL, stems)
    there, wanted = (loudness(torch.from_numpy(wave), RATE) for wave in (files["karaoke"], stems["mixture"]))
    before = loudness(torch.from_numpy(stems["mixture"] - stems["vocals"]), RATE)
    assert peak(files["karaoke"]) <= peak(stems["mixture"]) * 1.0001
    assert there <= wanted + 0.01
    assert there - before <= 6.03
    limited = peak(files["karaoke"]) > 0.999 * peak(stems["mixture"]) or there - before > 6.01
    assert limited or there == pytest.approx(wanted, abs=0.01)
    assert np.array_equal(files["vocals"], stems["vocals"])
    (said,) = mixer.said
    assert said.startswith("karaoke was turned ")
    assert ("because" in said) == (there < wanted - 0.005)


def test_silence_stays_silent() -> None:
    for mixdown in (KARAOKE, LEVEL):
        quiet = np.zeros((2, RATE), np.float32)
        mixer, files = mixed(mixdown, {"mixture": quiet, "vocals": quiet})
        assert not files["karaoke"].any()
        assert mixer.gain == 1
        assert mixer.gains() == {"karaoke": 1.0, "vocals": 1.0}
        # All voice: nothing is left, and nothing is made of it.
        voice = music(1.0, RATE)
        mixer, files = mixed(mixdown, {"mixture": voice, "vocals": voice})
        assert not files["karaoke"].any()
        assert np.array_equal(files["vocals"], voice)


def test_what_leaks_into_a_silent_part_is_not_turned_down_for_ever() -> None:
    for mixdown in (KARAOKE, LEVEL):
        leak = 1e-6 * music(1.0, RATE)
        mixer, _ = mixed(mixdown, {"mixture": 0 * leak, "vocals": leak})
        assert mixer.gain == 1
        assert mixer.gains() == {"karaoke": 1.0, "vocals": 1.0}


def test_a_voice_alone_leaves_no_noise_turned_up() -> None:
    voice = music(1.0, RATE)
    mixer, files = mixed(LEVEL, {"mixture": voice, "vocals": 0.99 * voice})
    assert peak(files["karaoke"]) == pytest.approx(2 * 0.01 * peak(voice), rel=0.01)
    assert "more would be noise" in mixer.said[0]


def test_mono_compatible() -> None:
    """Both channels summed up are the song's less the voice's: nothing was turned around to cancel the middle."""
    stems = song(0.3, 0.6)
    _, files = mixed(KARAOKE, stems)
    expected = stems["mixture"].sum(0) - stems["vocals"].sum(0)
    assert peak(files["karaoke"].sum(0) - expected) < 1e-6


def test_a_mixdown_goes_to_other_processes() -> None:
    output = Output(mixdown=LEVEL)
    assert pickle.loads(pickle.dumps(output)) == output
    assert inf > Mixdown().streams == 1
