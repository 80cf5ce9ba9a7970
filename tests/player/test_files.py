"""Pages replace pages, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from separate.errors import OutputError, OutputExists
from separate.player.files import write
from separate.player.folder import Song, songs_in
from separate.player.index import write_index
from tests.player.conftest import tone, write_stems


@pytest.fixture
def song(tmp_path: Path) -> Song:
    return songs_in(write_stems(tmp_path / "Song", {"vocals": tone(440, 0.2), "bass": tone(110, 0.2)}))[0]


def test_a_page_and_a_report(song: Song) -> None:
    names = ["index.html", "report.json", "vocals.png", "bass.png", "original.png"]
    for _ in range(2):  # the second time ours are replaced
        paths = write(song, report_too=True)
        assert [path.name for path in paths] == names
    assert {path.name for path in song.page.parent.iterdir()} == {*names, "vocals.wav", "bass.wav", "original.wav"}
    assert set(json.loads(paths[1].read_text())["stems"]) == {"vocals", "bass"}
    assert "Share of the energy" in song.page.read_text("utf-8")


def test_a_report_alone(song: Song) -> None:
    assert write(song, player=False, report_too=True)[0].name == "report.json"
    assert not song.page.exists()


@pytest.mark.parametrize("name", ["index.html", "report.json", "vocals.png"])
def test_what_is_not_ours_is_left(song: Song, name: str) -> None:
    theirs = song.page.with_name(name)
    theirs.write_text("<html>mine</html>")
    with pytest.raises(OutputExists, match=f"{name}: is there already, and separate did not make it"):
        write(song, report_too=True)
    assert theirs.read_text() == "<html>mine</html>"
    write(song, report_too=True, force=True)
    assert theirs.read_bytes() != b"<html>mine</html>"


def test_a_folder_in_the_way(song: Song) -> None:
    song.page.mkdir()
    with pytest.raises(OutputError, match=r"index\.html: cannot be written"):
        write(song)
    with pytest.raises(OutputError, match=r"index\.html: cannot be written"):
        write(song, force=True)
    assert not list(song.page.parent.glob(".*.part"))


def test_the_index_leads_to_every_page(tmp_path: Path) -> None:
    for name in ("One & <two>", "a/b", "c"):
        write_stems(tmp_path / name, {"vocals": tone(440, 0.1)})
    (tmp_path / "c").rename(tmp_path / os.fsdecode(b"caf\xe9"))  # no text, and libsndfile's writer wants text
    songs = songs_in(tmp_path)
    text = write_index(tmp_path, songs).read_text("utf-8")
    assert "One &amp; &lt;two&gt;" in text
    for link in ("One%20%26%20%3Ctwo%3E/index.html", "a/b/index.html", "caf%E9/index.html"):
        assert f'href="{link}"' in text
    write_index(tmp_path, songs)
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(OutputExists):
        write_index(tmp_path, songs)
