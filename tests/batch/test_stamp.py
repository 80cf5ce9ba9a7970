"""Versions of files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from separate.batch.stamp import matches, stamp, sync_folder


def test_a_version_is_size_time_and_hash(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"some bytes")
    version = stamp(file, sync=True)
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
