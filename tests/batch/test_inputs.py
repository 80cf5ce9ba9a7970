"""Which songs are meant by files, folders, patterns and lists."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from separate.audio.url import location
from separate.batch.inputs import read_list, songs
from separate.errors import InputError, UsageError
from tests.audio.stores import clear, put


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("music/a.wav", "music/b [live].mp3", "music/sub/c.FLAC", "music/sub/deep/d.ogg", "music/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tracks(name: str, out: str = "out") -> list[str]:
    return [str(track) for _, track in songs(name, Path(out))]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("music/*.wav", ["a"]),
        ("music/**/*.ogg", ["sub/deep/d"]),
        ("music/**", ["a", "b [live]", "sub/c", "sub/deep/d"]),
        ("music/*", ["a", "b [live]", "sub/c", "sub/deep/d"]),  # a folder means all that is in it
        ("mus?c/su[abc]/c.*", ["music/sub/c"]),
        ("*/sub", ["music/sub/c", "music/sub/deep/d"]),
        ("music/b [live].mp3", ["b [live]"]),  # a file of this very name comes first
    ],
)
def test_patterns(library: Path, pattern: str, found: list[str]) -> None:
    assert tracks(pattern) == found


def test_a_song_of_a_pattern_is_named_as_the_user_would(library: Path) -> None:
    assert [song for song, _ in songs("*/a.*", Path("out"))] == ["music/a.wav"]
    assert [song for song, _ in songs("./music/a.*", Path("out"))] == ["music/a.wav"]
    absolute = str(library / "music" / "a.*")
    assert [song for song, _ in songs(absolute, Path("out"))] == [str(library / "music" / "a.wav")]


@pytest.mark.parametrize(
    ("name", "said"), [("music/*.opus", "no audio files are called so"), ("empty", "no audio files in this folder")]
)
def test_an_input_without_songs(library: Path, name: str, said: str) -> None:
    (library / "empty").mkdir()
    ((song, why),) = songs(name, Path("out"))
    assert song == name
    assert isinstance(why, InputError)
    assert said in str(why)


def test_links_to_folders_are_followed_once(library: Path) -> None:
    (library / "music" / "again").symlink_to(library / "music")  # a loop
    (library / "music" / "0 link").symlink_to(library / "music" / "sub")  # sorts before what it links to
    (library / "other").mkdir()
    (library / "other" / "e.wav").touch()
    (library / "other" / "back").symlink_to(library / "music")
    (library / "music" / "elsewhere").symlink_to(library / "other")
    assert tracks("music") == ["a", "b [live]", "sub/c", "sub/deep/d", "elsewhere/e"]


def test_the_output_folder_is_not_searched(library: Path) -> None:
    assert tracks("music", "music/sub") == ["a", "b [live]"]
    for name in ("music", "music/*.wav", str(library / "music")):
        ((_, error),) = songs(name, library / "music")
        assert "music: is the output folder itself; choose another --out" in str(error)


def test_patterns_look_only_where_something_may_fit(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (library / "music" / "0 link").symlink_to(library / "music" / "sub")
    looked: list[str] = []
    scandir = os.scandir

    def look(path: str) -> Any:
        looked.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", look)
    assert tracks("music/*.wav") == ["a"]
    assert tracks("music/sub/*/*.ogg") == ["deep/d"]
    assert tracks("music/0*/c.*") == ["0 link/c"]
    assert looked == ["music", "music/sub", "music/sub/deep", "music", "music/0 link"]


@contextmanager
def nobody() -> Iterator[None]:
    """Be somebody whom permissions stop."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such permissions here")
def test_folders_that_cannot_be_read_are_named(library: Path) -> None:
    library.chmod(0o755)
    (library / "music" / "sub" / "deep").chmod(0)
    why = "music/sub/deep: this folder cannot be read: Permission denied"
    with nobody():
        assert tracks("music") == ["a", "b [live]", "sub/c", why]
        assert tracks("music/**/*.ogg") == [why]
        assert tracks("music/*.wav") == ["a"]
        ((song, error),) = songs("music/sub/deep", Path("out"))
    assert (song, str(error)) == ("music/sub/deep", why)
    assert isinstance(error, InputError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_in_folders_are_no_songs(library: Path) -> None:
    os.mkfifo(library / "music" / "pipe.wav")
    (library / "music" / "link.wav").symlink_to("pipe.wav")
    (library / "music" / "none.wav").symlink_to("nowhere")  # is said when it is read
    (library / "music" / "z.wav").symlink_to("a.wav")
    assert tracks("music/*.wav") == ["a", "none", "z"]
    assert tracks("music/pipe.wav") == ["pipe"]


@pytest.mark.parametrize(("name", "track"), [("..wav", "..wav"), (".wav", ".wav"), ("a.b.wav", "a.b"), ("a", "a")])
def test_a_song_is_called_like_its_file(library: Path, name: str, track: str) -> None:
    assert tracks(f"music/{name}") == [track]


@pytest.mark.parametrize(
    "data",
    [
        b"a.wav\nb c.wav\n",
        b"a.wav\r\n\r\nb c.wav",
        b"\xef\xbb\xbfa.wav\nb c.wav",
        b"a.wav\0b c.wav\0",
        b"\xef\xbb\xbfa.wav\0b c.wav",
        "\ufeffa.wav\r\nb c.wav\r\n".encode("utf-16-le"),
        "\ufeffa.wav\r\nb c.wav".encode("utf-16-be"),
    ],
)
def test_lists(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "list").write_bytes(data)
    assert read_list(str(tmp_path / "list")) == ["a.wav", "b c.wav"]


@pytest.mark.parametrize("text", ["s.wav", "s.wav\r\n", "歌.wav\r\n歌 2.wav\r\n", "歌 曲1.wav\n音 樂2.wav\n"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_lists_whose_encoding_nothing_says(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "list").write_bytes(text.encode(encoding))
    with pytest.raises(UsageError, match="list: seems to be UTF-16 without a mark that says so; save it as UTF-8"):
        read_list(str(tmp_path / "list"))


def test_names_of_one_letter_in_a_list(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b".\0a\0")
    assert read_list(str(tmp_path / "list")) == [".", "a"]
    (tmp_path / "list").write_bytes(b"1\0002\0003\0004\0")
    assert read_list(str(tmp_path / "list")) == ["1", "2", "3", "4"]


def test_a_list_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"-\n\xff.wav\nline\n")))
    assert read_list("-") == ["./-", os.fsdecode(b"\xff.wav"), "line"]
    with pytest.raises(UsageError, match=r"none\.txt: cannot be read: No such file"):
        read_list("none.txt")


@pytest.fixture
def store() -> Iterator[str]:
    """A library in a store."""
    clear()
    for name in ("a.wav", "b [live].mp3", "sub/c.FLAC", "sub/deep/d.ogg", "notes.txt", ".hid/e.wav", "sub/.f.wav"):
        put(f"memory://music/{name}", b"")
    yield "memory://music"
    clear()


@pytest.mark.parametrize(
    ("below", "found"),
    [
        ("", ["a", "b [live]", "sub/c", "sub/deep/d"]),
        ("/", ["a", "b [live]", "sub/c", "sub/deep/d"]),
        ("/sub", ["c", "deep/d"]),
        ("/a.wav", ["a"]),
        ("/*.wav", ["a"]),
        ("/**/*.ogg", ["sub/deep/d"]),
        ("/s?b/[ab]*", []),
        ("/s?b/d*", ["sub/deep/d"]),
        ("/notes.txt", ["notes"]),
    ],
)
def test_songs_in_a_store(store: str, below: str, found: list[str]) -> None:
    if found:
        assert tracks(store + below) == found
    else:
        ((_, error),) = songs(store + below, Path("out"))
        assert isinstance(error, InputError)


def test_urls_of_songs(store: str) -> None:
    assert [song for song, _ in songs("memory://music/s?b/*/d.*", Path("out"))] == ["memory://music/sub/deep/d.ogg"]
    assert [song for song, _ in songs("memory://mus?c/sub", Path("out"))] == [
        "memory://music/sub/c.FLAC", "memory://music/sub/deep/d.ogg",
    ]  # fmt: skip
    assert list(songs("https://host/A%20song.mp3?v=1", Path("out"))) == [("https://host/A%20song.mp3?v=1", "A song")]


def test_stems_in_a_store_are_no_songs(store: str) -> None:
    found = [track for _, track in songs(store, location("memory://music/sub/deep"))]
    assert found == ["a", "b [live]", "sub/c"]


def test_nothing_in_a_store(store: str) -> None:
    ((name, error),) = songs("memory://none/", Path("out"))
    assert (name, str(error)) == ("memory://none/", "memory://none/: no such file")
    ((_, error),) = songs(f"{store}/*.aiff", Path("out"))
    assert str(error) == f"{store}/*.aiff: no audio files are called so"


def test_a_file_url(library: Path) -> None:
    assert list(songs(f"file://{library}/music/a.wav", Path("out"))) == [(f"{library}/music/a.wav", "a")]
    assert tracks(f"file://{library}/music") == tracks("music")
