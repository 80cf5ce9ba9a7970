"""Names that may be URLs."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from separate.audio.url import Url, below, is_url, location, name_below, path_in, plain, redacted


@pytest.mark.parametrize("name", ["s3://b/x.wav", "memory://x", "zip://a.wav::s3://b/x.zip", "simplecache::gs://b/x"])
def test_urls(name: str) -> None:
    assert is_url(name)
    assert plain(name) == name


@pytest.mark.parametrize(
    "name", ["x.wav", "C:\\x.wav", "C://x", "a/b://c", "Artist::Title.wav", "file:///x.wav", "-", ""]
)
def test_files_of_this_machine(name: str) -> None:
    assert not is_url(name)


def test_a_file_url_is_a_path() -> None:
    assert plain("file:///a/b.wav") == plain("FILE://localhost/a/b.wav") == plain("local:///a/b.wav") == "/a/b.wav"
    assert location("file:///a/b") == location("/a/b") == Path("/a/b")


def test_a_url_names_what_is_in_it_like_a_path() -> None:
    out = location("s3://bucket/out/")
    file = out / "d2-gru/./album/song/vocals.wav"
    assert file == Url("s3://bucket/out/d2-gru/album/song/vocals.wav")
    assert (file.name, str(file.parent)) == ("vocals.wav", "s3://bucket/out/d2-gru/album/song")
    assert name_below(file, out) == "d2-gru/album/song/vocals.wav"
    assert str(location("memory://") / "x.wav") == "memory://x.wav"
    assert name_below(Path("/a/b/c.wav"), Path("/a")) == "b/c.wav"
    assert below("s3://b", "x/y.wav") == below("s3://b/", "x/y.wav") == "s3://b/x/y.wav"
    assert below("zip://::s3://b/x.zip", "y.wav") == "zip://y.wav::s3://b/x.zip"


@pytest.mark.parametrize(
    ("song", "stem", "suffix"),
    [
        ("s3://bucket/a/What's up?.wav", "What's up?", ".wav"),
        ("https://host/a/My%20song.mp3?X-Signature=a/b.c#d", "My song", ".mp3"),
        ("zip://a/song.flac::s3://bucket/x.zip", "song", ".flac"),
        ("simplecache::s3://bucket/song.flac", "song", ".flac"),
        ("album/song.tar.wav", "song.tar", ".wav"),
    ],
)
def test_the_name_of_a_song(song: str, stem: str, suffix: str) -> None:
    path: PurePath = path_in(song)
    assert (path.stem, path.suffix) == (stem, suffix)


def test_nobody_reads_a_password_in_a_message() -> None:
    said = redacted(
        "https://me:secret@host/x.wav?sig=secret&more=secret: no; sftp://you:secret@host/y, s3://b/why?.wav"
    )
    assert said == "https://***@host/x.wav?...: no; sftp://***@host/y, s3://b/why?.wav"
    assert redacted("sftp://you@host/y: a@b:c") == "sftp://you@host/y: a@b:c"
