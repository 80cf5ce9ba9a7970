"""Songs and stems in stores: read in pieces, sent all or none, and what goes wrong there."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import mutagen
import numpy as np
import pytest

from separate.audio.reader import AudioReader
from separate.audio.remote import Pieces, look, open_song, upload, walk
from separate.audio.tag_writer import copy_tags
from separate.audio.url import Url
from separate.errors import DependencyError, InputError, OutputError, OutputExists
from tests.audio._in_songs import cut, encode, music, read, write
from tests.audio.stores import BadStore, Closed, Ranges, Whole, clear, contents, put, web


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    clear()
    yield
    clear()


@pytest.fixture
def flac(tmp_path: Path) -> Path:
    """Half a megabyte of noise, which is more than one piece."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 150_000)).astype(np.float32)
    return write(tmp_path / "song.flac", noise)


def songs(folder: Path) -> Iterator[Path]:
    """Write a song in each family of formats."""
    audio = music(30_000)
    yield from (write(folder / f"song.{kind}", audio) for kind in ("wav", "flac", "ogg", "aiff"))
    yield from (
        encode(folder / f"song.{kind}", audio, codec) for kind, codec in (("m4a", "aac"), ("mp3", "libmp3lame"))
    )
    yield from (encode(folder / f"song.{kind}", audio, codec) for kind, codec in (("wma", "wmav2"), ("wv", "wavpack")))
    yield encode(folder / "song.opus", audio, "libopus", 48000)


def test_every_format_is_read_as_from_a_disk(tmp_path: Path) -> None:
    for path in songs(tmp_path):
        url = put(f"memory://music/{path.name}", path.read_bytes())
        with AudioReader(path) as here, AudioReader(url) as there:
            assert (there.name, there.frames, there.bits) == (url, here.frames, here.bits)
        assert np.array_equal(read(url), read(path)), path.name
        assert np.array_equal(read(url, 1000, 20_000), read(path, 1000, 20_000)), path.name


def test_only_what_is_needed_is_asked_for(flac: Path) -> None:
    with web(flac.parent) as address:
        with AudioReader(f"{address}/{flac.name}") as song:
            assert song.frames == 150_000
        header = list(Ranges.asked)
        assert np.array_equal(read(f"{address}/{flac.name}"), read(flac))
    size = flac.stat().st_size
    assert [range_ for range_ in header if range_ != "all"] == [f"bytes={size - 1}-{size - 1}", "bytes=0-262143"]
    assert f"bytes=262144-{size - 1}" in Ranges.asked  # what goes on is asked for in larger pieces


def test_a_web_server_that_cannot_begin_in_the_middle(flac: Path) -> None:
    with web(flac.parent, Whole) as address:
        assert np.array_equal(read(f"{address}/{flac.name}?token=1"), read(flac))


def test_pieces_are_a_file(flac: Path) -> None:
    put("memory://song", data := flac.read_bytes())
    with Pieces(fsspec.open("memory://song").open(), len(data), "memory://song") as song:
        assert song.read() == data
        assert song.seek(-10, 2) == len(data) - 10
        assert (song.read(4), song.tell(), song.read()) == (data[-10:-6], len(data) - 6, data[-6:])
        assert (song.seek(300_000), song.seek(5, 1), song.read(3)) == (300_000, 300_005, data[300_005:300_008])
        assert (song.seek(len(data) + 5), song.read(1)) == (len(data) + 5, b"")
        with pytest.raises(OSError, match="Invalid argument"):
            song.seek(-1)
        assert song.readable()
        assert song.seekable()


@pytest.mark.parametrize("kind", ["flac", "wav", "mp3"])
def test_a_store_that_fails_in_the_middle(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 500_000)).astype(np.float32)
    path = tmp_path / f"song.{kind}"
    put(
        url := f"bad://{path.name}",
        (encode(path, noise, "libmp3lame") if kind == "mp3" else write(path, noise)).read_bytes(),
    )
    BadStore.unread = 2**18
    with (
        AudioReader(url) as song,
        pytest.raises(InputError, match=f"^{url}: its store says: the disk of the store is broken$"),
    ):
        list(song.blocks())
    BadStore.error = KeyboardInterrupt()
    if kind != "mp3":  # PyAV lets go of it, as it does for files
        with AudioReader(url) as song, pytest.raises(KeyboardInterrupt):
            list(song.blocks())
    BadStore.unread, BadStore.error = 0, PermissionError("no")
    with pytest.raises(InputError, match="its store does not permit it: check your credentials"):
        AudioReader(url)


def test_a_song_that_is_cut_short(flac: Path) -> None:
    put("memory://song.flac", cut(flac, 0.9).read_bytes())
    with pytest.raises(InputError, match=r"^memory://song.flac: .* at 0:0\d\.\d+ of 0:03\.401; the file is damaged"):
        read("memory://song.flac")


def test_tags_of_a_song_at_a_url(flac: Path, tmp_path: Path) -> None:
    tags: Any = mutagen.File(flac)
    tags["ARTIST"] = "Somebody"
    tags.save()
    target = write(tmp_path / "stem.flac", music(1000))
    assert (
        copy_tags(put("memory://a/A song.flac", flac.read_bytes()), target, "flac", stem="vocals", in_title=True)
        is None
    )
    assert dict(mutagen.File(target)) == {"artist": ["Somebody"], "subtitle": ["vocals"], "title": ["A song (vocals)"]}
    assert copy_tags("memory://none.flac", target, "flac") == "tags could not be read: memory://none.flac: no such file"


def test_versions(flac: Path) -> None:
    assert look("memory://song") is None
    put("memory://a/song", b"one")
    first = look("memory://a/song")
    put("memory://a/song", b"two")
    second = look(Url("memory://a/song"))
    assert first is not None
    assert second is not None
    assert (first.size, first.folder, second.size) == (3, False, 3)
    assert first.tag != second.tag
    folder = look("memory://a")
    assert folder is not None
    assert folder.folder
    with pytest.raises(InputError, match=r"^memory://a: is a folder, not a song$"):
        open_song("memory://a")


def test_what_is_in_a_folder() -> None:
    for name in ("b/two.wav", "b/one.wav", "a/x/three.wav", "zero.wav"):
        put(f"memory://top/{name}", b"")
    found = list(walk("memory://top/"))
    assert found == [
        ("", ["a", "b"], ["zero.wav"]),
        ("a", ["x"], []),
        ("a/x", [], ["three.wav"]),
        ("b", [], ["one.wav", "two.wav"]),
    ]
    for _, folders, _ in (pruned := walk("memory://top")):
        folders[:] = folders[:1]
    assert next(pruned, None) is None
    with pytest.raises(InputError, match=r"^memory://none: no such file$"):
        list(walk("memory://none"))


def test_files_appear_together(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"2" * 2**24)
    files = {Url(f"memory://out/{name}.wav"): tmp_path / name for name in ("one", "two")}
    upload(files, force=False)
    assert contents("memory://out") == {"one.wav": b"1", "two.wav": b"2" * 2**24}
    with pytest.raises(OutputExists, match=r"^memory://out/one.wav: is there already; --force overwrites it"):
        upload(files, force=False)
    (tmp_path / "two").write_bytes(b"3")
    upload(files, force=True)
    assert contents("memory://out") == {"one.wav": b"1", "two.wav": b"3"}


def test_or_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    files = {Url(f"bad://out/{number}"): tmp_path / "one" for number in range(4)}
    BadStore.refuses = "2"
    with pytest.raises(OutputError, match=r"^bad://out/0: its store says: the disk of the store is broken$"):
        upload(files, force=False)
    assert BadStore.store == {}
    BadStore.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        upload(files, force=False)
    assert BadStore.store == {}
    with pytest.raises(OutputError, match="no such file"):
        upload({**files, Url("bad://out/5"): tmp_path / "none"}, force=False)
    assert BadStore.store == {}
    BadStore.refuses = None
    upload(files, force=False)
    BadStore.refuses, BadStore.error = "2", OSError("full")
    (tmp_path / "one").write_bytes(b"2")
    with pytest.raises(
        OutputError, match=r"says: full \(replaced before that, as --force asks: bad://out/0, bad://out/1\)$"
    ):
        upload(files, force=True)
    assert {name: file.getvalue() for name, file in BadStore.store.items()} == {
        "/out/0": b"2", "/out/1": b"2", "/out/2": b"1", "/out/3": b"1",
    }  # fmt: skip


def test_no_thread_is_left(tmp_path: Path, flac: Path) -> None:
    before = {thread for thread in threading.enumerate() if thread.name.startswith("separate")}
    upload({Url("memory://x"): flac}, force=True)
    assert {thread for thread in threading.enumerate() if thread.name.startswith("separate")} == before


def test_addresses_where_nobody_is(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^http://127.0.0.1:9/x.wav\?...: its store cannot be reached: check the address"
    ):
        AudioReader("http://127.0.0.1:9/x.wav?token=secret")
    with pytest.raises(InputError, match=r"^nope://x.wav: nobody knows how to get there"):
        AudioReader("nope://x.wav")
    with (
        web(tmp_path, Closed) as address,
        pytest.raises(InputError, match="does not permit it: check your credentials"),
    ):
        AudioReader(f"{address}/x.wav")
    with web(tmp_path) as address, pytest.raises(InputError, match=f"^{address}/x.wav: no such file$"):
        AudioReader(f"{address}/x.wav")


@pytest.mark.parametrize(
    ("package", "url", "advice"),
    [
        ("s3fs", "s3://bucket/song.wav", r'pip install "separate-music\[s3\]"'),
        ("gcsfs", "gs://bucket/song.wav", r'pip install "separate-music\[gs\]"'),
        ("aiohttp", "https://host/song.wav", r'pip install "separate-music\[http\]"'),
        ("adlfs", "abfs://bucket/song.wav", "pip install adlfs"),
        ("paramiko", "sftp://host/song.wav", "paramiko"),
    ],
)
def test_a_package_that_is_missing(package: str, url: str, advice: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nfrom separate.audio.remote import look\nlook({url!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = done.stderr.splitlines()[-1]
    kind = f"{DependencyError.__module__}.{DependencyError.__name__}"
    assert said.startswith(f"{kind}: {url}: {url.partition(':')[0]}:// needs one more package: "), done.stderr
    assert re.search(advice, said), said
