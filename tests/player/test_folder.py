"""Which files become a page, and where it goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from separate.errors import InputError
from separate.player.folder import Song, page_name, songs_in
from separate.player.page import is_voice


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_stems_are_in_the_order_of_a_score(tmp_path: Path) -> None:
    touch(tmp_path / "Song", "zither.wav", "bass.wav", "vocals.flac", "other.wav", "mixture.mp3", "notes.txt", ".x.wav")
    (song,) = songs_in(tmp_path / "Song")
    assert list(song.stems) == ["vocals", "bass", "other", "zither"]
    assert song.original == tmp_path / "Song" / "mixture.mp3"
    assert (song.title, song.page) == ("Song", tmp_path / "Song" / "index.html")
    assert song.beside("report.json").name == "report.json"


def test_what_all_names_begin_with_is_no_stem(tmp_path: Path) -> None:
    touch(tmp_path, "My bass song - bass.wav", "My bass song - backing.wav", "My bass song - original.wav")
    (song,) = songs_in(tmp_path)
    assert set(song.stems) == {"bass", "backing"}
    assert song.original is not None


def test_what_is_without_a_stem_is_not_called_like_it(tmp_path: Path) -> None:
    touch(tmp_path, "one/no_drums.wav", "one/no_vocals.wav", "two/Song - no drums.wav", "two/Song - no vocals.wav")
    one, two = songs_in(tmp_path)
    assert (list(one.stems), list(two.stems)) == (["no_drums", "no_vocals"], ["no drums", "no vocals"])


def test_stems_in_brackets(tmp_path: Path) -> None:
    (song,) = songs_in(touch(tmp_path, "Song (vocals).wav", "Song (karaoke).wav", "Song (mix).wav", "Song (a (b)).wav"))
    assert list(song.stems) == ["vocals", "a (b)", "karaoke"]
    assert song.original == tmp_path / "Song (mix).wav"


def test_one_file_is_a_stem_whatever_its_name(tmp_path: Path) -> None:
    (song,) = songs_in(touch(tmp_path, "original.wav"))
    assert (list(song.stems), song.original) == (["original"], None)


def test_equal_names_are_told_apart_by_their_suffix(tmp_path: Path) -> None:
    (song,) = songs_in(touch(tmp_path, "vocals.mp3", "vocals.wav"))
    assert sorted(song.stems) == ["vocals", "vocals.wav"]


def test_folders_of_songs(tmp_path: Path) -> None:
    touch(tmp_path, "b/vocals.wav", "a/one/vocals.wav", "a/one/deeper/vocals.wav", "c/notes.txt", ".d/vocals.wav")
    os.symlink(tmp_path, tmp_path / "c" / "loop")
    assert [str(song.page.relative_to(tmp_path)) for song in songs_in(tmp_path)] == ["a/one/index.html", "b/index.html"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    (song,) = songs_in(touch(folder, os.fsdecode(b"v\xff.wav"), "drums.wav"))
    assert song.title == r"caf\udce9"
    assert list(song.stems) == ["drums", r"v\udcff"]
    assert song.stems[r"v\udcff"].is_file()


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere", "no such folder"), ("file.wav", "is a file"), ("empty", "no audio files")]
)
def test_what_is_no_folder_of_stems(tmp_path: Path, name: str, words: str) -> None:
    touch(tmp_path, "file.wav")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{name}: .*{words}"):
        songs_in(tmp_path / name)


@pytest.mark.parametrize(
    ("template", "track", "page"),
    [
        ("{model}/{track}/{stem}.{ext}", "song", "tiny/song/index.html"),
        ("{model}/{track}/{stem}.{ext}", "cd1/song", "tiny/cd1/song/index.html"),
        ("{stem}.{ext}", "song", "index.html"),
        ("{track}_{stem}.{ext}", "song", "song.html"),
        ("{track}_{stem}", "song", "song.html"),
        ("{track}.{stem}.wav", "song", "song.html"),
        ("{stem}-{track}.{ext}", "-my bass-", "-my bass-.html"),
        ("{stem}/{track}.{ext}", "song", "song.html"),
        ("{stem}/{track}.{ext}", "cd1/song", "cd1/song.html"),
        ("all/{stem} of {model}/{track}.{ext}", "song", "all/of tiny/song.html"),
        ("{track} ({stem}).{ext}", "Song (live)", "Song (live).html"),
        ("{track} ({stem}).{ext}", "R.E.M.", "R.E.M..html"),
        ("{track} ({stem}).{ext}", "_x", "_x.html"),
        ("{track} ({stem}).{ext}", " x ", " x .html"),
        ("{track} {stem} {suffix}.{ext}", "vocals", "vocals mp3.html"),
        ("{stem}/{track}.{suffix}", "song", "song.mp3.html"),
        ("{track} /{stem}.{ext}", "{stem}", "{stem} /index.html"),
        ("{track:.2}/{stem}.{ext}", "Artist", "Ar/index.html"),
        ("{track[0]}/{track}/{stem}.{ext}", "Artist", "A/Artist/index.html"),
    ],
)
def test_the_page_goes_beside_the_stems(tmp_path: Path, template: str, track: str, page: str) -> None:
    name = page_name(template, model="tiny", ext="wav", track=track, suffix="mp3")
    assert name == page
    song = Song("Song", {}, tmp_path / name)
    assert song.beside("report.json").parent == song.page.parent


def test_what_belongs_to_a_page_is_called_like_it(tmp_path: Path) -> None:
    assert Song("", {}, tmp_path / "R.E.M..html").beside("report.json") == tmp_path / "R.E.M. report.json"


@pytest.mark.parametrize(
    ("name", "voice"),
    [
        ("vocals", True), ("Lead_Vocals", True), ("backing vocals 2", True), ("voice", True), ("piano_vocals", True),
        ("no_vocals", False), ("no_vocals_drums", False), ("No vocals", False), ("vocalise", False), ("lead", False),
        ("no_drums_vocals", False), ("drums_vocals", True), ("vocals_no_reverb", True),
    ],
)  # fmt: skip
def test_which_stems_karaoke_is_without(name: str, voice: bool) -> None:
    assert is_voice(name) is voice
