"""Checkpoints from the hub: the real client against a small server on loopback that speaks as much of its protocol."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = """
import sys
from separate.checkpoints.resolve import resolve
from separate.checkpoints.weights import load
from separate.errors import CheckpointError
try:
    print(load(resolve(sys.argv[1])).sources)
except CheckpointError as error:
    print("CheckpointError:", error)
"""


@pytest.fixture
def hub(tiny: Path) -> Iterator[str]:
    """Serve one repository, someone/music, with one file, net.safetensors."""
    content = tiny.read_bytes()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            if self.path not in (
                "/someone/music/resolve/main/net.safetensors",
                f"/someone/music/resolve/{COMMIT}/net.safetensors",
            ):
                code = "EntryNotFound" if self.path.startswith("/someone/music/") else "RepoNotFound"
                self.send_response(404)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def resolved(model: str, endpoint: str, home: Path, **more: str) -> str:
    env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PATH": "", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more}
    command = [sys.executable, "-c", RESOLVE, model]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def test_a_file_of_the_hub_is_fetched_once_and_found_offline(hub: str, tmp_path: Path) -> None:
    for model in ("hf:someone/music/net.safetensors", f"hf:someone/music/net.safetensors@{COMMIT}"):
        assert resolved(model, hub, tmp_path) == "('vocals', 'drums', 'bass', 'other')\n"
    offline = resolved("hf:someone/music/net.safetensors", "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert offline == "('vocals', 'drums', 'bass', 'other')\n"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("hf:someone/music/other.safetensors", "the hub says: "),
        ("hf:nobody/music/net.safetensors", "the hub says: "),
        ("hf:someone/music", "is written hf:user/repo/file.safetensors@revision"),
        ("hf:someone/music/net.pth", "is written hf:user/repo/file.safetensors@revision"),
    ],
)
def test_what_the_hub_does_not_have(hub: str, tmp_path: Path, model: str, said: str) -> None:
    answer = resolved(model, hub, tmp_path)
    assert answer.startswith(f"CheckpointError: {model}")
    assert said in answer
    assert len(answer.splitlines()) == 1


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    answer = resolved("hf:someone/music/net.safetensors", "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert "not in the cache, and the hub cannot be reached" in answer
