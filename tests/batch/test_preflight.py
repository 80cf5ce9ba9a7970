"""What is known before the work: songs, files and room."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from separate.audio.url import Url
from separate.batch.job import Job, Output
from separate.batch.plan import plan
from separate.batch.preflight import TRIAL, gigabytes, preflight
from separate.errors import OutputError
from tests.audio.stores import BadStore, clear, contents, put
from tests.batch.songs import write_song


def jobs(out: Path, *songs: Path, stems: tuple[str, ...] = ("vocals", "other")) -> list[Job]:
    return plan([str(song) for song in songs], out, "{track}/{stem}.{ext}", model="m", stems=stems, ext="wav")


def test_length_and_room(tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav", 2.0)
    out = tmp_path / "out"
    ((job,), needs) = preflight(jobs(out, song), Output(), out)
    assert job.seconds == 2.0
    assert (needs.songs, needs.seconds, needs.unknown, needs.exact) == (1, 2.0, 0, True)
    assert needs.room == 2 * 16000 * (2 + 4)  # two stems of 16 bits, and as floats while they are written
    assert needs.free is not None
    assert not needs.short
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]
    _, hard = preflight(jobs(out, song), Output(clip="hard", start=0.5, end=1.0, rate=16000), out)
    assert hard.room == 2 * 8000 * 2
    _, flac = preflight(jobs(out, song), Output(format="flac"), out)
    assert not flac.exact


def test_what_is_wrong_is_known_before(tmp_path: Path) -> None:
    good, broken = write_song(tmp_path / "good.wav"), tmp_path / "broken.wav"
    broken.write_bytes(good.read_bytes()[:500])
    soundfile.write(tmp_path / "surround.wav", np.zeros((800, 6)), 8000)
    all_jobs = jobs(tmp_path / "out", good, broken, tmp_path / "none.wav", tmp_path / "surround.wav")
    checked: list[int] = []
    found, needs = preflight(all_jobs, Output(format="mp3"), tmp_path / "out", checked=checked.append)
    assert [job.song for job in found] == [job.song for job in all_jobs]
    said = ["" if job.error is None else str(job.error) for job in found]
    assert said[0] == ""
    assert "cut short" in said[1]
    assert "no such file" in said[2]
    assert "mp3 takes 1 to 2 channels" in said[3]
    assert needs.songs == 1
    assert checked == [1, 2, 3, 4]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav")
    ((job,), _) = preflight(jobs(Path("/proc/nothing"), song), Output(), Path("/proc/nothing"))
    assert isinstance(job.error, OutputError)
    assert "/proc/nothing" in str(job.error)


def test_too_little_room(tmp_path: Path) -> None:
    # A file of zeros that takes no room on the disk: as many hours as there is no room for.
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    song = tmp_path / "long.wav"
    with soundfile.SoundFile(song, "w", 48000, 2, "PCM_16", format="RF64") as file:
        file.write(np.zeros((100, 2), np.int16))
    raw = bytearray(song.read_bytes())
    at = raw.index(b"data")
    size = free // 3 // 4 * 4
    raw[20:28] = (at + size).to_bytes(8, "little")  # of the file, as its header says
    raw[28:36] = size.to_bytes(8, "little")
    raw[36:44] = (size // 4).to_bytes(8, "little")
    raw[at + 4 : at + 8] = b"\xff" * 4
    song.write_bytes(raw[: at + 8])
    os.truncate(song, at + 8 + size)
    with pytest.raises(OutputError, match=r"the stems of 1 songs need .* GB, .* are free; make room"):
        preflight(jobs(tmp_path / "out", song), Output(), tmp_path / "out")
    _, needs = preflight(jobs(tmp_path / "out", song), Output(format="flac"), tmp_path / "out")
    assert needs.short


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")  # opening it would wait for whoever writes
    ((job,), needs) = preflight(jobs(tmp_path / "out", tmp_path / "pipe.wav"), Output(), tmp_path / "out")
    assert job.todo
    assert needs.unknown == 1


@pytest.mark.timeout(60)
def test_ten_thousand_songs_of_which_some_are_broken(tmp_path: Path) -> None:
    good, broken = write_song(tmp_path / "good.wav"), tmp_path / "broken.wav"
    broken.write_bytes(good.read_bytes()[:500])
    for number in range(10_000):
        folder = tmp_path / "music" / f"album {number // 100}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(broken if number % 100 == 7 else good, folder / f"{number % 100}.wav")
    found, needs = preflight(jobs(tmp_path / "out", tmp_path / "music"), Output(), tmp_path / "out")
    assert sum(job.error is not None for job in found) == 100
    assert needs.songs == 9_900
    assert needs.seconds == pytest.approx(990)


def test_sizes() -> None:
    assert gigabytes(1_234_567_890) == "1.2 GB"
    assert gigabytes(1_500_000) == "1.5 MB"


def test_songs_and_stems_in_a_store(tmp_path: Path) -> None:
    clear()
    song = put("memory://song.wav", write_song(tmp_path / "song.wav", 2.0).read_bytes())
    out = Url("memory://out")
    todo = plan([song, "memory://none.wav"], out, "{track}/{stem}.{ext}", model="m", stems=("vocals",), ext="wav")
    (job, none), needs = preflight(todo, Output(), out)
    assert (job.error, job.seconds, str(none.error)) == (None, 2.0, "memory://none.wav: no such file")
    assert (needs.songs, needs.free, needs.short) == (1, None, False)
    assert contents("memory://out") == {}  # but for a moment


def test_a_store_that_takes_nothing(tmp_path: Path) -> None:
    clear()
    BadStore.refuses = TRIAL
    song = write_song(tmp_path / "song.wav")
    (job,) = plan([str(song)], Url("bad://out"), "{stem}.{ext}", model="m", stems=("vocals",), ext="wav")
    ((job,), _) = preflight([job], Output(), Url("bad://out"))
    assert str(job.error) == f"bad://out/{TRIAL}: its store says: the disk of the store is broken"
