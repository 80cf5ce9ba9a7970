"""Stores for tests, as fsspec has them: one in memory, one that fails, and a web server."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem


class BadFile(MemoryFile):  # type: ignore[misc]
    """Goes wrong where its store says."""

    def read(self, *size: int) -> bytes:
        if BadStore.unread is not None and self.tell() >= BadStore.unread:
            raise BadStore.error
        return bytes(super().read(*size))

    def commit(self) -> None:
        if self.path.endswith(str(BadStore.refuses)):
            raise BadStore.error
        super().commit()


class BadStore(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory with songs that cannot be read from a byte on, and files that it does not take."""

    protocol = "bad"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    unread: ClassVar[int | None] = None
    refuses: ClassVar[str | None] = None
    error: ClassVar[BaseException] = OSError("the disk of the store is broken")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("bad://")))

    def _open(self, path: str, mode: str = "rb", **more: Any) -> MemoryFile:
        path = self._strip_protocol(path)
        if mode == "rb":
            return BadFile(self, path, self.store[path].getvalue())
        file = BadFile(self, path)
        if not self._intrans:
            file.commit()
        return file


fsspec.register_implementation("bad", BadStore, clobber=True)


def put(url: str, data: bytes) -> str:
    """Put a file into a store."""
    with fsspec.open(url, "wb") as file:
        file.write(data)
    return url


def contents(url: str) -> dict[str, bytes]:
    """Read all files below a URL."""
    store, path = fsspec.url_to_fs(url)
    store.invalidate_cache()
    return {name[len(path) :].strip("/"): store.cat_file(name) for name in store.find(path)}


def clear() -> None:
    """Empty the stores in memory."""
    for store in (MemoryFileSystem, BadStore):
        store.store.clear()
        store.pseudo_dirs[:] = [""]
    BadStore.unread = BadStore.refuses = None
    BadStore.error = OSError("the disk of the store is broken")


class Ranges(SimpleHTTPRequestHandler):
    """Hands out parts of files, as web servers of songs do; counts what it is asked for."""

    asked: ClassVar[list[str]] = []
    able = True

    def send_head(self) -> Any:
        wanted = self.headers.get("Range")
        self.asked.append(wanted or "all")
        path = Path(self.translate_path(self.path))
        if not wanted or not self.able or not path.is_file():
            return super().send_head()
        first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        data = path.read_bytes()[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{path.stat().st_size}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Whole(Ranges):
    """Cannot begin in the middle."""

    able = False


class Closed(Ranges):
    """Permits nothing."""

    def send_head(self) -> Any:
        self.send_error(403)
        return None

    do_PUT = do_POST = SimpleHTTPRequestHandler.do_HEAD  # noqa: N815


@contextlib.contextmanager
def web(folder: Path, kind: type[Ranges] = Ranges) -> Iterator[str]:
    """Serve a folder; yield its address."""
    kind.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: kind(*a, directory=str(folder), **k)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
