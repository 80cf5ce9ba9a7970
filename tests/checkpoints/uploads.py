"""The small hub on loopback, which takes what the real client sends it, too."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.checkpoints.hub import LARGE, TOKEN, Handler, Hub, Repository, Server, use


class Taker(Handler):
    """One request, which may bring something."""

    uploaded: dict[str, bytes]  # SHA-256 -> content of large files

    def do_POST(self) -> None:  # noqa: N802
        self.take()

    def do_PUT(self) -> None:  # noqa: N802
        self.take()

    def take(self) -> None:
        """Find out what is brought."""
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append((self.command, path, {name.lower(): value for name, value in self.headers.items()}))
        if self.hub.trouble.get(self.command):
            self.send(self.hub.trouble[self.command].pop(0))
        elif self.command == "PUT":
            self.uploaded[path.removeprefix("/upload/")] = body
            self.send(200)
        elif path == "/api/validate-yaml":
            self.send_json({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.send(403)
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif path.endswith(".git/info/lfs/objects/batch"):
            self.send_json({"transfer": "basic", "objects": [self.place(one) for one in json.loads(body)["objects"]]})
        else:
            user, name, kind, _ = path.removeprefix("/api/models/").split("/")
            self.preupload(json.loads(body)) if kind == "preupload" else self.commit(f"{user}/{name}", body)

    def create(self, wanted: dict[str, str]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        there = name in self.hub.repositories
        if not there:
            self.hub.repositories[name] = Repository(private=wanted["visibility"] == "private")
        self.send(409 if there else 200, json.dumps({"url": f"{self.hub.url}/{name}"}).encode())

    def preupload(self, wanted: dict[str, list[dict[str, str]]]) -> None:
        modes = {True: "lfs", False: "regular"}
        files = [{"path": file["path"], "uploadMode": modes[file["path"].endswith(LARGE)]} for file in wanted["files"]]
        self.send_json({"files": [file | {"shouldIgnore": False} for file in files]})

    def place(self, wanted: dict[str, object]) -> dict[str, object]:
        """Say where a large file is to go; nowhere if it is here already."""
        if wanted["oid"] in self.uploaded:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/upload/{wanted['oid']}"}}}

    def commit(self, repo: str, body: bytes) -> None:
        files: dict[str, bytes] = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.uploaded[value["oid"]]
        commit = self.hub.repositories[repo].commit(files)
        self.send_json({"commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", "commitOid": commit})


@contextmanager
def taking_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a hub that takes what somebody sends whose token it knows, until the end of the block."""
    from huggingface_hub import constants

    hub = Hub()
    server = Server(("127.0.0.1", 0), type("TakingHandler", (Taker,), {"hub": hub, "uploaded": {}}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    use(hub, home, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # whose protocol needs a second server
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
