"""Versions of files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from separate.audio.url import Url
from separate.batch.stamp import is_there, matches, peek, stamp, sync_folder
from tests.audio.stores import clear, put


def test_a_version_is_size_time_and_hash(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"some bytes")
    version = stamp(file)
    assert version.size == 10
    assert version.sha256 == hashlib.sha256(b"some bytes").hexdigest()
    assert version == stamp(file)
    sync_folder(tmp_path)
    sync_folder(tmp_path / "none")  # nothing to be done


def test_what_matches(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"some bytes")
    version = stamp(file)
    assert matches(file, version)
    os.utime(file, (1, 1))  # copied to another disk: its bytes are read
    assert matches(file, version)
    file.write_bytes(b"some bytez")
    assert not matches(file, version)
    file.write_bytes(b"some")
    assert not matches(file, version)
    file.unlink()
    assert not matches(file, version)


def test_versions_in_a_store() -> None:
    clear()
    url = put("memory://file", b"some bytes")
    version = stamp(url)
    assert (version.size, version.mtime_ns, version.sha256) == (10, 0, "")
    assert version == stamp(Url(url)) == peek(url)
    assert matches(Url(url), version)
    put(url, b"some bytez")
    assert not matches(url, version)
    assert is_there(Url(url))
    clear()
    assert not matches(url, version)
    assert not is_there(Url(url))
    with pytest.raises(FileNotFoundError):
        stamp(url)


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    assert peek(tmp_path) is None
    assert peek("none") is None
    assert peek("zero\0") is None
    (tmp_path / "link").symlink_to("nowhere")
    assert is_there(tmp_path / "link")
