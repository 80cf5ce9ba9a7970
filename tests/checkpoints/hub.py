"""A small hub on loopback that speaks the protocol of the Hugging Face hub, for the real client to talk to.

It knows repositories (public, private, gated), revisions, small files and large ones, which it sends from another host
as the hub does, ranges, lists of files, and how to be in trouble: busy, slow, or broken off in mid-transfer. It knows
as much of Xet as it takes to read from it: a file is one xorb of some pieces that are not compressed.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

LARGE = (".safetensors",)  # what the hub keeps outside git, and calls by its SHA-256
PIECE = 2**16  # bytes

ROW = """
[{name}]
architecture = "d2-gru"
source = "{source}"
stems = ["vocals", "drums", "bass", "other"]
sample_rate = 44100
licence = "{licence}"
summary = "{name} for tests"
"""

TOKEN = "hf_test_token_of_somebody_who_may"


@dataclass
class Repository:
    """Revisions of files: commit -> name -> content."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Make a new revision that holds these files, and those of before."""
        merged = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        name = hashlib.sha1(repr((len(self.commits), sorted(merged.items()))).encode()).hexdigest()
        self.commits[name] = merged
        self.branches[branch] = name
        return name


@dataclass
class Hub:
    """What the server has, how it feels, and what it was asked."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    trouble: dict[str, list[int]] = field(default_factory=dict)  # method -> statuses of its next requests
    retry_after: str = ""
    breaks: list[int] = field(default_factory=list)  # of the next transfers: bytes after which the line is cut
    ignores_ranges: bool = False
    lies: dict[str, bytes] = field(default_factory=dict)  # SHA-256, or name in Xet -> what is sent instead
    xet: str = ""  # large files are in Xet: "there", or "lost", of which this hub has nothing
    renamed: dict[str, str] = field(default_factory=dict)  # repositories: old name -> new one
    sizes: dict[str, int] = field(default_factory=dict)  # SHA-256, or `etag` -> the size that is said
    etag: str = ""  # what large files are called instead of by their SHA-256
    page: bytes = b""  # what the API answers instead
    slow: threading.Event | None = None  # transfers stop in the middle until it is set
    halfway: threading.Event = field(default_factory=threading.Event)  # a slow transfer is in its middle

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False, gated: bool = False) -> str:
        """Make a repository, or a new revision of one: its commit."""
        repository = self.repositories.setdefault(name, Repository(private=private, gated=gated))
        return repository.commit(files)

    def transfers(self) -> list[dict[str, str]]:
        """List the headers of all requests for the content of large files."""
        return [headers for method, path, headers in self.asked if method == "GET" and path.startswith("/cdn/")]

    def large(self, name: str) -> bytes:
        """Find a large file by its SHA-256, or by the name that it has in Xet."""
        files = (c for r in self.repositories.values() for files in r.commits.values() for c in files.values())
        return next(content for content in files if name in (sha256(content), xet_hash(content)))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def xet_hash(content: bytes) -> str:
    """Name a file in Xet: any other name than its SHA-256 will do."""
    return sha256(content[::-1])


def xorb(content: bytes) -> bytes:
    """Write a file as Xet keeps it: pieces, each after its version, its size, how it is compressed, its size again."""
    pieces = [content[i : i + PIECE] for i in range(0, len(content), PIECE)]
    sizes = [len(piece).to_bytes(3, "little") for piece in pieces]
    return b"".join(b"\0" + size + b"\0" + size + piece for size, piece in zip(sizes, pieces, strict=True))


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        """Find out what is asked for."""
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append((self.command, path, {name.lower(): value for name, value in self.headers.items()}))
        if hub.trouble.get(self.command):
            self.send(hub.trouble[self.command].pop(0), headers={"Retry-After": hub.retry_after})
        elif self.hub.page and path.startswith("/api/"):
            self.send(200, self.hub.page)
        elif path.startswith("/cdn/"):
            name = path.removeprefix("/cdn/")
            self.send_part(hub.lies.get(name) or hub.large(name))
        elif path.startswith("/xorbs/"):
            name = path.removeprefix("/xorbs/")
            self.send_part(xorb(hub.lies.get(name) or hub.large(name)))
        elif path.startswith("/v1/reconstructions/"):
            self.send_plan(path.removeprefix("/v1/reconstructions/"))
        elif path.startswith("/v2/"):  # a younger way to say the same
            self.send(404)
        elif "/xet-read-token/" in path and hub.xet == "there":
            hours = {"X-Xet-Token-Expiration": str(round(time.time()) + 7200)}
            self.send(200, b"{}", {"X-Xet-Cas-Url": hub.url, "X-Xet-Access-Token": "for Xet alone"} | hours)
        elif path == "/api/models":
            author = parse_qs(urlsplit(self.path).query)["author"][0]
            names = [name for name, found in hub.repositories.items() if not found.private]
            self.send_json([{"id": name} for name in names if name.startswith(f"{author}/")])
        elif path.startswith("/api/models/"):
            user, name, kind, *rest = [*path.removeprefix("/api/models/").split("/"), ""]
            self.send_facts(f"{user}/{name}", kind, rest)
        else:
            user, name, _, revision, *file = path[1:].split("/")
            self.send_file(f"{user}/{name}", revision, "/".join(file))

    def repository(self, name: str) -> Repository | None:
        """Find a repository that this user may see; tell the user if it is none."""
        found = self.hub.repositories.get(name)
        may = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if found is None or (found.private and not may):
            self.send(401 if not may else 404, headers={"X-Error-Code": "RepoNotFound"})
            return None
        if found.gated and not may:
            self.send(401, headers={"X-Error-Code": "GatedRepo"})
            return None
        return found

    def send_facts(self, name: str, kind: str, rest: list[str]) -> None:
        """Answer the API: the files of a revision, or the branches."""
        if (found := self.repository(name)) is None:
            return
        commit = found.branches.get(rest[0] if rest else "main", rest[0] if rest else "")
        if kind == "refs":
            refs = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": c} for b, c in found.branches.items()]
            self.send_json({"branches": refs, "tags": [], "converts": []})
        elif commit not in found.commits:
            self.send(404, headers={"X-Error-Code": "RevisionNotFound"})
        elif kind == "tree":
            files = found.commits[commit].items()
            self.send_json([{"type": "file", "path": f, "size": len(c), "oid": git_hash(c)} for f, c in files])
        else:
            siblings = [{"rfilename": file} for file in found.commits[commit]]
            self.send_json({"id": name, "sha": commit, "siblings": siblings})

    def send_file(self, name: str, revision: str, file: str) -> None:
        """Answer /user/name/resolve/REVISION/FILE."""
        if name in self.hub.renamed:
            self.send(307, headers={"Location": f"/{self.hub.renamed[name]}/resolve/{revision}/{file}"})
            return
        if (found := self.repository(name)) is None:
            return
        commit = found.branches.get(revision, revision)
        content = found.commits.get(commit, {}).get(file)
        if content is None:
            code = "EntryNotFound" if commit in found.commits else "RevisionNotFound"
            self.send(404, headers={"X-Error-Code": code})
        elif file.endswith(LARGE):
            sha = sha256(content)
            etag = self.hub.etag or sha
            size = str(self.hub.sizes.get(etag, len(content)))
            # Another name of this machine is another host to the client, which must not see the token.
            place = self.hub.url.replace("127.0.0.1", "localhost") + f"/cdn/{sha}"
            more = {"X-Repo-Commit": commit, "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": size, "Location": place}
            if self.hub.xet:
                route = f"{self.hub.url}/api/models/{name}/xet-read-token/{commit}"
                more |= {"X-Xet-Hash": xet_hash(content), "X-Xet-Refresh-Route": route}
            self.send(302, headers=more)
        else:
            self.send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{git_hash(content)}"'})

    def send_plan(self, name: str) -> None:
        """Say of what a file in Xet is made."""
        content = self.hub.large(name)
        pieces, size = {"start": 0, "end": -(-len(content) // PIECE)}, len(xorb(content))
        place = {"url": f"{self.hub.url}/xorbs/{name}", "range": pieces, "url_range": {"start": 0, "end": size - 1}}
        terms = [{"hash": name, "unpacked_length": len(content), "range": pieces}]
        self.send_json({"offset_into_first_range": 0, "terms": terms, "fetch_info": {name: [place]}})

    def send_part(self, content: bytes) -> None:
        """Send a large file, or a part of it; break off, or wait, in the middle, if so told."""
        start, end = 0, len(content)
        wanted = self.headers.get("Range")
        if wanted and not self.hub.ignores_ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(end, int(last or end) + 1)
        body = content[start:end]
        self.send_response(200 if len(body) == len(content) else 206)
        self.send_header("Content-Length", str(len(body)))
        if len(body) < len(content):
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.end_headers()
        end = self.hub.breaks.pop(0) if self.hub.breaks else len(body)
        if self.hub.slow:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.hub.halfway.set()
            self.hub.slow.wait(60)
            self.wfile.write(body[len(body) // 2 :])
            return
        self.wfile.write(body[:end])
        if end < len(body):
            self.close_connection = True

    def send_json(self, content: object) -> None:
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing when a client goes away in mid-transfer: some tests kill theirs."""


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a hub until the end of the block."""
    hub = Hub()
    server = Server(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        if hub.slow:
            hub.slow.set()
        server.shutdown()
        server.server_close()
        thread.join()


def use(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the hub's client, in this process, to a hub and to a cache of its own: it reads its variables only once."""
    from huggingface_hub import close_session, constants

    from separate.checkpoints import trouble

    close_session()
    point_to(hub.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(trouble, "PAUSES", (0.01, 0.02, 0.04, 0.08))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "SEPARATE_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "settings"))


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the hub's client to another address."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    """Say the same to a process of its own."""
    more |= {"HF_HUB_DISABLE_TELEMETRY": "1"}
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "XDG_CONFIG_HOME": str(home), "PATH": "", **more}
