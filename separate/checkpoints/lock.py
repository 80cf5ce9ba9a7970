"""The lock: the SHA-256 of every file that was fetched, written down when it first came and compared at every load.

It is a file of JSON beside the cache of the hub, one line a file:

    {"version": 1, "sha256": {"user/repo@commit/net.safetensors": "9f86d0...", ...}}

A file that was in the cache before we knew it, fetched by another program, is compared with the name of its blob: the
hub's client calls it after what it holds, by SHA-256 or, of small files, by the hash that git has for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from separate.errors import CheckpointError

__all__ = ["digest", "drop", "lock_path", "matches", "names_its_content", "read_lock"]

VERSION = 1
BLOCK = 2**25  # bytes read at once: between two blocks a thread waits for its turn, for ms while another one imports


def lock_path() -> Path:
    """Say where the lock is."""
    from huggingface_hub import constants

    return Path(os.path.realpath(Path(constants.HF_HUB_CACHE).parent)) / "separate-lock.json"


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file; of one that has not changed since, once in a process."""
    try:
        stat = path.stat()
        return _digest(path.resolve(), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def matches(key: str, path: Path) -> bool:
    """Tell whether a file is the one that came first; write it down if it is seen for the first time."""
    found, known = digest(path), read_lock().get(key)
    if known is not None:
        return found == known
    called = os.readlink(path) if path.is_symlink() else path  # by the first of its links: a second one is Xet's
    if not names_its_content(Path(called).name, path):
        return False
    with suppress(OSError):  # a cache that can only be read, and then its blobs' names are what there is
        _write(lambda lock: {**lock, key: found})
    return True


def names_its_content(name: str, path: Path) -> bool:
    """Tell whether a file holds what `name` says, if that is a SHA-256 or git's hash; any other says nothing."""
    if re.fullmatch("[0-9a-f]{64}", name):
        return digest(path) == name
    if re.fullmatch("[0-9a-f]{40}", name):
        content = path.read_bytes()  # of a small file: large ones have a SHA-256
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == name
    return True


def read_lock() -> dict[str, str]:
    """Read the lock: file -> SHA-256."""
    path = lock_path()
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["version"] != VERSION:
            raise ValueError(f"its version is {content['version']!r}")
        return dict(content["sha256"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); delete it, and the files are noted anew") from error


def drop(keys: list[str]) -> None:
    """Forget files."""
    if not read_lock().keys().isdisjoint(keys):
        _write(lambda lock: {key: value for key, value in lock.items() if key not in keys})


def _write(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Change the lock, while no other process does."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    path = lock_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(path.with_suffix(".lock")):
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            content = {"version": VERSION, "sha256": dict(sorted(change(read_lock()).items()))}
            part.write_text(json.dumps(content, indent=0) + "\n", "utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@lru_cache
def _digest(path: Path, size: int, changed: int) -> str:
    sha256, block = hashlib.sha256(), bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            sha256.update(memoryview(block)[:count])
    return sha256.hexdigest()
