"""`separate player`, `--player` and `--report` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from separate.batch.journal import NAME
from separate.player import files
from tests.conftest import Outcome, music

Cli = Callable[..., Outcome]


@pytest.fixture
def stems(tmp_path: Path) -> Path:
    folder = tmp_path / "Song"
    folder.mkdir()
    for seed, name in enumerate(("vocals", "drums")):
        soundfile.write(folder / f"{name}.wav", music(0.5, 44100, seed=seed).T, 44100)
    return folder


def test_a_folder_of_stems(cli: Cli, stems: Path) -> None:
    outcome = cli("player", stems)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{stems / 'index.html'}: 0.")
    assert "Song" in (stems / "index.html").read_text("utf-8")


def test_a_title_and_the_song(cli: Cli, stems: Path, song: Path) -> None:
    assert cli("player", stems, "--song", song, "--title", "<b>ar", "--report", "-q").code == 0
    text = (stems / "index.html").read_text("utf-8")
    assert "<h1>&lt;b&gt;ar</h1>" in text
    assert json.loads((stems / "report.json").read_text())["title"] == "<b>ar"
    assert (stems / "original.png").is_file()


def test_a_song_among_its_stems_is_no_stem(cli: Cli, stems: Path) -> None:
    sound = [soundfile.read(path)[0] for path in stems.iterdir()]
    soundfile.write(stems / "song.wav", sum(sound), 44100, "FLOAT")
    assert cli("player", stems, "--song", stems / "song.wav", "--report", "-q").code == 0
    facts = report_of(stems)
    assert list(facts["stems"]) == ["vocals", "drums"]
    assert facts["null_error_db"] < -60


def test_many_songs_of_which_one_fails(cli: Cli, tmp_path: Path, stems: Path) -> None:
    bad = tmp_path / "Bad"
    bad.mkdir()
    (bad / "vocals.wav").write_bytes(b"RIFF")
    stems.rename(tmp_path / "Good")
    outcome = cli("player", tmp_path)
    assert outcome.code == 1
    assert f"separate: {bad / 'vocals.wav'}" in outcome.err
    assert [line.partition(":")[0] for line in outcome.out.splitlines()] == [
        str(tmp_path / "Good" / "index.html"),
        str(tmp_path / "index.html"),
    ]
    assert "Good/index.html" in (tmp_path / "index.html").read_text("utf-8")


def test_a_title_is_for_one_song(cli: Cli, tmp_path: Path, stems: Path) -> None:
    (tmp_path / "Other").mkdir()
    soundfile.write(tmp_path / "Other" / "vocals.wav", np.zeros(100), 44100)
    outcome = cli("player", tmp_path, "--title", "X")
    assert outcome.code == 2
    assert "holds 2 songs" in outcome.err


def test_failures_are_one_line(cli: Cli, stems: Path) -> None:
    (stems / "index.html").write_text("mine")
    outcome = cli("player", stems)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.count("\n") == 1
    assert "--force" in outcome.err
    assert cli("player", stems, "--force").code == 0


def test_with_the_stems(cli: Cli, tmp_path: Path, song: Path, tiny: Path) -> None:
    outcome = cli(song, "-m", tiny, "-o", tmp_path / "out", "--player", "--report", "--json")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out" / "tiny" / "song"
    facts = json.loads((folder / "report.json").read_text())
    assert facts["null_error_db"] < -60  # the rounding of 16 bits, four times
    assert facts["times_real_time"] > 0
    assert facts["title"] == "song"
    assert "Separated at" in (folder / "index.html").read_text("utf-8")
    assert (folder / "vocals.png").read_bytes().startswith(b"\x89PNG")


def test_a_part_and_another_name(cli: Cli, tmp_path: Path, song: Path, tiny: Path) -> None:
    out = tmp_path / "out"
    options = ("--start", "0.25", "--end", "1", "--name", "{track}_{stem}.{ext}", "--clip", "rescale")
    assert cli(song, "-m", tiny, "-o", out, "--report", *options).code == 0
    facts = json.loads((out / "song report.json").read_text())
    assert facts["seconds"] == 0.75
    assert facts["null_error_db"] < -60
    assert not (out / "song.html").exists()


def test_a_page_for_stems_that_are_there(cli: Cli, tmp_path: Path, song: Path, tiny: Path) -> None:
    asked = (song, "-m", tiny, "-o", tmp_path / "out")
    assert cli(*asked).code == 0
    assert cli(*asked, "--skip-existing", "--player").code == 0
    page = tmp_path / "out" / "tiny" / "song" / "index.html"
    made = page.stat().st_mtime_ns
    assert cli(*asked, "--skip-existing", "--player").code == 0
    assert page.stat().st_mtime_ns == made
    assert cli(*asked, "--skip-existing", "--player", "--report").code == 0
    assert (page.parent / "report.json").is_file()


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    """A song of which the stems have to be turned down to fit into 16 bits."""
    path = tmp_path / "loud.wav"
    soundfile.write(path, 16 * music(0.5, 44100).T, 44100, "FLOAT")
    return path


def report_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return facts


@pytest.mark.parametrize("again", ["--skip-existing", "--resume"])
def test_the_gain_of_stems_that_are_there(cli: Cli, tmp_path: Path, loud: Path, tiny: Path, again: str) -> None:
    asked = (loud, "-m", tiny, "-o", tmp_path / "out", "--bits", "16")
    assert cli(*asked).code == 0
    assert cli(*asked, again, "--report").code == 0
    facts = report_of(tmp_path / "out" / "tiny" / "loud")
    assert facts["gain"] < 0.5
    assert facts["null_error_db"] < -60


def test_a_page_has_all_stems_though_one_alone_was_missing(cli: Cli, tmp_path: Path, loud: Path, tiny: Path) -> None:
    asked = (loud, "-m", tiny, "-o", tmp_path / "out", "--bits", "16", "--report", "--player")
    folder = tmp_path / "out" / "tiny" / "loud"
    assert cli(*asked).code == 0
    whole = report_of(folder)
    (folder / "vocals.wav").unlink()
    assert cli(*asked, "--skip-existing").code == 0
    facts = report_of(folder)
    assert list(facts["stems"]) == list(whole["stems"])
    assert "4 stems" in (folder / "index.html").read_text("utf-8")
    assert facts["gain"] == pytest.approx(whole["gain"], rel=1e-4)
    assert facts["null_error_db"] < -60


def test_how_loud_stems_of_others_are_nobody_knows(cli: Cli, tmp_path: Path, loud: Path, tiny: Path) -> None:
    asked = (loud, "-m", tiny, "-o", tmp_path / "out", "--bits", "16", "--skip-existing", "--report")
    assert cli(*asked[:-2]).code == 0
    (tmp_path / "out" / NAME).unlink()
    assert cli(*asked).code == 0
    facts = report_of(tmp_path / "out" / "tiny" / "loud")
    assert (facts["gain"], facts["null_error_db"]) == (None, None)


def test_songs_of_one_name_in_two_folders(cli: Cli, tmp_path: Path, tiny: Path) -> None:
    for seed, disc in enumerate(("cd1", "cd2")):
        (tmp_path / "alb" / disc).mkdir(parents=True)
        soundfile.write(tmp_path / "alb" / disc / "intro.wav", music(0.2, 44100, seed=seed).T, 44100)
    out = tmp_path / "out"
    assert cli(tmp_path / "alb", "-m", tiny, "-o", out, "--name", "{stem}/{track}.{ext}", "--player").code == 0
    assert sorted(str(page.relative_to(out)) for page in out.rglob("*.html")) == ["cd1/intro.html", "cd2/intro.html"]


def test_pages_are_called_like_songs(cli: Cli, tmp_path: Path, tiny: Path) -> None:
    names = ["R.E.M.", "Song (live)", "_x", "x"]
    songs = [tmp_path / f"{name}.wav" for name in names]
    for song in songs:
        soundfile.write(song, music(0.2, 44100).T, 44100)
    out = tmp_path / "out"
    assert cli(*songs, "-m", tiny, "-o", out, "--karaoke", "--player", "--report").code == 0
    assert sorted(page.name for page in out.rglob("*.html")) == [f"{name}.html" for name in names]
    assert sorted(page.name for page in out.rglob("*.json")) == [f"{name} report.json" for name in names]


def test_a_song_of_eight_channels_and_another(cli: Cli, tmp_path: Path, song: Path, tiny: Path) -> None:
    soundfile.write(tmp_path / "c8.wav", music(0.2, 44100, channels=8).T, 44100)
    outcome = cli(tmp_path / "c8.wav", song, "-m", tiny, "-o", tmp_path / "out", "--player")
    assert outcome.code == 0, outcome.err
    for name in ("c8", "song"):
        assert (tmp_path / "out" / "tiny" / name / "index.html").is_file()


def test_a_mistake_of_ours_stops_no_other_song(
    cli: Cli, tmp_path: Path, song: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise IndexError("tuple index out of range")

    second = tmp_path / "second.wav"
    second.write_bytes(song.read_bytes())
    monkeypatch.setattr(files, "page", fail)
    outcome = cli(song, second, "-m", tiny, "-o", tmp_path / "out", "--player")
    assert outcome.code == 1
    for name in ("song", "second"):
        assert f"{name}.wav: IndexError in test_player.py" in outcome.err
        assert (tmp_path / "out" / "tiny" / name / "vocals.wav").is_file()
    outcome = cli("player", tmp_path / "out")
    assert outcome.code == 1
    assert outcome.err.count("IndexError in test_player.py") == 2


def test_less_than_a_sample(cli: Cli, tmp_path: Path, song: Path, tiny: Path) -> None:
    outcome = cli(song, "-m", tiny, "-o", tmp_path / "out", "--end", "0.00001", "--player")
    assert outcome.code == 0, outcome.err


def test_a_page_that_cannot_be_is_a_failure(cli: Cli, tmp_path: Path, song: Path, tiny: Path) -> None:
    folder = tmp_path / "out" / "tiny" / "song"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("mine")
    outcome = cli(song, "-m", tiny, "-o", tmp_path / "out", "--player")
    assert outcome.code == 1
    assert "index.html: is there already" in outcome.err
    assert (folder / "vocals.wav").is_file()


@pytest.mark.parametrize("more", [("--out", "-", "--stems", "vocals"), ("--stem-mp4",)])
def test_pages_need_stems_in_files(cli: Cli, song: Path, tiny: Path, more: tuple[str, ...]) -> None:
    outcome = cli(song, "-m", tiny, "--player", *more)
    assert outcome.code == 2
    assert "--player" in outcome.err
