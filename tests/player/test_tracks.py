"""What is measured of stems: energies, sums, lengths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from separate.errors import InputError
from separate.player.folder import Part, Song, songs_in
from separate.player.report import report
from separate.player.tracks import LONGEST, listen
from tests.player.conftest import RATE, tone, write_stems


@pytest.fixture
def song(tmp_path: Path) -> Song:
    stems = {"vocals": tone(440, 3.0, level=0.2), "bass": tone(110, 3.0, level=0.1)}
    return songs_in(write_stems(tmp_path / "Song", stems))[0]


def test_figures(song: Song) -> None:
    heard = listen(song, sound=False, loudness=True)
    facts = report(song, heard, {"model": "d2-gru"})
    assert facts["seconds"] == 3.0
    assert facts["null_error_db"] < -130
    vocals, bass = facts["stems"]["vocals"], facts["stems"]["bass"]
    assert vocals["energy_share"] == pytest.approx(0.8)
    assert bass["energy_share"] == pytest.approx(0.2)
    assert vocals["peak_dbfs"] == pytest.approx(-13.98, abs=0.01)
    # BS.1770: -0.691 + 10 log10 of the channels' power, and K-weighting changes 440 Hz by little.
    assert vocals["loudness_lufs"] == pytest.approx(-0.691 + 10 * np.log10(2 * 0.02), abs=0.8)
    assert facts["model"] == "d2-gru"
    assert heard.tracks[0].sound == b""


def test_what_is_missing_is_the_null_error(song: Song) -> None:
    alone = replace(song, stems={"vocals": song.stems["vocals"]})
    assert listen(alone, sound=False).null_error == pytest.approx(10 * np.log10(0.2), abs=0.01)


def test_a_part_that_was_turned_down(song: Song, tmp_path: Path) -> None:
    folder = tmp_path / "part"
    folder.mkdir()
    for name, path in song.stems.items():
        samples, _ = soundfile.read(path, dtype="float32")
        soundfile.write(folder / f"{name}.wav", 0.5 * samples[RATE : 2 * RATE], RATE, "FLOAT")
    part = replace(songs_in(folder)[0], original=song.original, part=Part(1.0, 2.0, 0.5))
    error = listen(part, sound=False).null_error
    assert error is not None
    assert error < -130


def test_stems_that_were_not_turned_down_alike_are_not_compared(song: Song) -> None:
    assert listen(replace(song, part=Part(gain=None)), sound=False).null_error is None


def test_a_part_shorter_than_a_sample_is_one(song: Song, tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    for name in song.stems:
        soundfile.write(tmp_path / "part" / f"{name}.wav", np.full((1, 2), 0.5, np.float32), RATE, "FLOAT")
    (part,) = songs_in(tmp_path / "part")
    heard = listen(replace(part, original=song.original, part=Part(end=0.00001)))
    assert heard.original is not None
    assert heard.frames == heard.original.frames == 1


def test_a_song_of_another_rate_is_not_compared(song: Song, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "other.wav", tone(440, 3.0, 48000).T, 48000)
    assert listen(replace(song, original=tmp_path / "other.wav"), sound=False).null_error is None


def test_silence_has_no_loudness(tmp_path: Path) -> None:
    song = songs_in(write_stems(tmp_path / "Song", {"vocals": np.zeros((2, RATE), np.float32)}))[0]
    facts = report(song, listen(song, sound=False, loudness=True), {})
    assert facts["stems"]["vocals"] == {
        "file": "vocals.wav", "energy_share": None, "loudness_lufs": None, "peak_dbfs": None
    }  # fmt: skip


def test_little_differences_in_length_are_lossy_formats(song: Song) -> None:
    soundfile.write(song.stems["bass"], tone(110, 2.9).T, RATE)
    assert listen(song, sound=False).frames == 3 * RATE


@pytest.mark.parametrize(
    ("seconds", "rate", "words"),
    [(1.5, RATE, r"lasts 1\.5 s and .*vocals\.wav 3\.0 s"), (3.0, 48000, "its rate is 48000 Hz and that of .* 44100")],
)
def test_files_that_are_not_one_songs(song: Song, seconds: float, rate: int, words: str) -> None:
    soundfile.write(song.stems["bass"], tone(110, seconds, rate).T, rate)
    with pytest.raises(InputError, match=f"bass.wav: {words}.*only the stems of one song"):
        listen(song, sound=False)


def test_another_song_is_not_the_original(song: Song, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", tone(440, 5.0).T, RATE)
    with pytest.raises(InputError, match=r"long\.wav 5\.0 s"):
        listen(replace(song, original=tmp_path / "long.wav"), sound=False)


def test_nothing_to_listen_to(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "vocals.wav", np.zeros((0, 2)), RATE)
    with pytest.raises(InputError, match="has no samples"):
        listen(songs_in(tmp_path)[0])
    soundfile.write(tmp_path / "mixture.wav", tone(440, 1.0).T, RATE)
    with pytest.raises(InputError, match="has no samples"):
        listen(songs_in(tmp_path)[0])


def test_songs_too_long_for_a_page(tmp_path: Path) -> None:
    minutes = LONGEST / 2 + 1
    for name in ("vocals", "bass"):  # the header alone promises the length: nobody reads the samples
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(round(minutes * 60 * 8000), np.int16), 8000)
    song = songs_in(tmp_path)[0]
    with pytest.raises(InputError, match=r"2 tracks of 61 minutes .*--start and --end"):
        listen(song)


def test_damaged_stems(song: Song) -> None:
    song.stems["bass"].write_bytes(b"no sound")
    with pytest.raises(InputError, match=r"bass\.wav"):
        listen(song)
