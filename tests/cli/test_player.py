"""`separate player`, `--player` and `--report` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

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
