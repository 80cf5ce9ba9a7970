from __future__ import annotations

from pathlib import Path

import pytest

from separate.errors import InputError
from separate.training.midi import read_midi
from tests.training.corpora import midi_file, struck


def test_notes_of_every_track_by_name(tmp_path: Path) -> None:
    path = midi_file(tmp_path / "a.mid", [("MELODY", struck(480, 60, 240)), ("PIANO", struck(0, 48) + struck(960, 50))])
    score = read_midi(path)
    assert set(score.tracks) == {"MELODY", "PIANO"}
    [note] = score.tracks["MELODY"]
    assert (note.start, note.length, note.pitch) == pytest.approx((0.5, 0.25, 60))
    assert note.velocity == pytest.approx(100 / 127)
    assert [n.pitch for n in score.tracks["PIANO"]] == [48, 50]
    assert score.beat == pytest.approx(0.5)
    assert score.end == pytest.approx(1.25)


def test_time_follows_every_change_of_tempo(tmp_path: Path) -> None:
    slow = b"\xff\x51\x03" + (1_000_000).to_bytes(3, "big")  # 60 beats a minute from the second beat on
    path = midi_file(tmp_path / "a.mid", [("tempo", [(480, slow)]), ("notes", struck(960, 60, 480))])
    [note] = read_midi(path).tracks["notes"]
    assert (note.start, note.length) == pytest.approx((0.5 + 1.0, 1.0))


def test_running_status_and_note_on_without_velocity(tmp_path: Path) -> None:
    # One status byte for three messages; a velocity of zero lets the note go.
    events = [(0, bytes([0x90, 60, 100])), (240, bytes([60, 0])), (480, bytes([62, 64]))]
    path = midi_file(tmp_path / "a.mid", [("t", [*events, (960, bytes([62, 0]))])])
    notes = read_midi(path).tracks["t"]
    assert [(n.pitch, round(n.start, 3), round(n.length, 3)) for n in notes] == [(60, 0.0, 0.25), (62, 0.5, 0.5)]


def test_other_messages_are_passed_over(tmp_path: Path) -> None:
    others = [(0, b"\xc0\x05"), (1, b"\xb0\x07\x64"), (2, b"\xf0\x03\x01\x02\xf7"), (3, b"\xe0\x00\x40")]
    path = midi_file(tmp_path / "a.mid", [("t", [*others, *struck(480, 60)])])
    assert [n.pitch for n in read_midi(path).tracks["t"]] == [60]


@pytest.mark.parametrize("data", [b"", b"RIFF1234WAVE", b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\x02\0\x90"])
def test_what_is_no_midi_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mid").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.mid: not a MIDI file"):
        read_midi(tmp_path / "a.mid")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.mid: cannot be read"):
        read_midi(tmp_path / "none.mid")
