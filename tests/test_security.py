"""What is not trusted (docs/design.md, "Whom we trust"): what songs, checkpoints and journals from anywhere cannot do.

More of it is shown where it belongs: test_house.py has who may unpickle, execute and import by name; the tests of
checkpoints what headers and pickles may hold; those of the player and of reports that names are only names.
"""

from __future__ import annotations

import ast
import html.parser
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from separate.audio.reader import AudioReader
from separate.batch.journal import NAME
from separate.checkpoints.weights import load, read_header
from separate.errors import CheckpointError, InputError
from separate.player.folder import songs_in
from separate.player.index import write_index
from separate.player.page import part
from tests.batch.songs import write_song
from tests.checkpoints.test_weights import header_of
from tests.conftest import Outcome
from tests.test_house import FILES, imported, module_of

Cli = Callable[..., Outcome]
EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


def with_header(tiny: Path, to: Path, **changes: str) -> Path:
    """Copy the tiny checkpoint with other words in its header."""
    save_file(load_file(tiny), to, header_of(tiny) | changes)
    return to


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# No shell, no module by name


STARTERS = {"subprocess", "pty", "commands", "popen2", "asyncio.subprocess"}
CALLS = (
    "os.system(",
    "os.popen(",
    "os.exec",
    "os.spawn",
    "os.posix_spawn",
    "os.startfile(",
    "asyncio.create_subprocess",
)


def started(source: str, module: str) -> list[str]:
    """Name what starts other programs."""
    tree = ast.parse(source)
    found = [f"{module}, line {line}: {name}" for line, name in imported(tree, module) if name in STARTERS]
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return found + [
        f"{module}, line {node.lineno}: {ast.unparse(node)}" for node in calls if ast.unparse(node).startswith(CALLS)
    ]


def test_no_other_program_is_started() -> None:
    assert not [line for path in FILES for line in started(path.read_text("utf-8"), module_of(path))]


@pytest.mark.parametrize("source", ["import subprocess", "os.system('ls')", "os.execvp(a, b)", "from pty import spawn"])
def test_a_program_that_is_started_is_named(source: str) -> None:
    (line,) = started(source, "separate.cli.run")
    assert line.startswith("separate.cli.run, line 1: ")


@pytest.mark.parametrize(
    "name", ["os", "os.system", "antigravity:Class", "separate.cli:main", "../d2-gru", "d2-gru ", ""]
)
def test_an_architecture_is_one_of_ours_or_none(tiny: Path, tmp_path: Path, name: str) -> None:
    path = with_header(tiny, tmp_path / "odd.safetensors", architecture=name)
    with pytest.raises(CheckpointError, match="unknown architecture"):
        load(path)
    assert "antigravity" not in sys.modules


# Files lie below --out


@pytest.mark.parametrize(
    "name", ["../../evil", "/tmp/evil", "a/b", "..", ".hidden", "", "x" * 200, "a\nb", "\x1b[2J", "mixture"]
)
def test_a_stem_cannot_be_a_path(cli: Cli, tiny: Path, song: Path, tmp_path: Path, name: str) -> None:
    config = json.loads(header_of(tiny)["config"]) | {"sources": [name, "b", "c", "d"]}
    path = with_header(
        tiny, tmp_path / "odd.safetensors", sources=json.dumps(config["sources"]), config=json.dumps(config)
    )
    before = tree(tmp_path)
    with pytest.raises(CheckpointError, match="a stem cannot be called"):
        read_header(path)
    done = cli(song, "-m", path, "-o", tmp_path / "deep/er/out")
    assert done.code == 3
    assert len(done.err.splitlines()) == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["No Vocals", "drum & bass", "Gesang (Chor)", "stem_2", "歌声", "lead+back"])
def test_stems_have_names_of_all_kinds(tiny: Path, tmp_path: Path, name: str) -> None:
    config = json.loads(header_of(tiny)["config"]) | {"sources": [name, "b", "c", "d"]}
    path = tmp_path / "mine.safetensors"
    with_header(tiny, path, sources=json.dumps(config["sources"]), config=json.dumps(config))
    assert load(path).sources == (name, "b", "c", "d")


def test_neither_song_nor_checkpoint_leads_out_of_the_output_folder(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    """Both have names in which only the suffix keeps ".." from being a folder."""
    plain = write_song(tmp_path / "song.wav")
    song = shutil.copy(plain, tmp_path / "...wav")
    model = shutil.copy(tiny, tmp_path / "...safetensors")
    before = tree(tmp_path)
    for words in ((song, "-m", tiny, "--name", "{track}/{stem}.{ext}"), (song, "-m", tiny), (plain, "-m", model)):
        done = cli(*words, "-o", tmp_path / "out")
        assert done.code == 1
        assert "is outside of the output folder" in done.err
        assert tree(tmp_path) == before


def test_a_journal_leads_nowhere_else(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    """A run tidies up what a killed one left where its journal says, but in the output folder only."""
    out, other = tmp_path / "out", tmp_path / "other"
    for folder in (out / "mine", other, tmp_path / "empty"):
        folder.mkdir(parents=True)
    for folder in (out / "mine", other):
        (folder / ".0123456789ab.part").write_text("somebody's")
    names = ["mine/x.wav", "../other/x.wav", f"{other}/x.wav", "../empty/x.wav"]
    events = [{"v": 1, "event": "begin", "song": "s", "outputs": {"vocals": name}} for name in names]
    (out / NAME).write_text("".join(json.dumps(event) + "\n" for event in events))
    assert cli(song, "-m", tiny, "-o", out, "--resume", "--stems", "bass", "--wiener", 0).code == 0
    assert not (out / "mine").exists()
    assert (other / ".0123456789ab.part").read_text() == "somebody's"
    assert (tmp_path / "empty").is_dir()


# A song opens no other file, and nothing on the network


@contextmanager
def somebody_listening() -> Iterator[socket.socket]:
    """Have a port on loopback, to see whether anybody calls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "m3u": "#EXTM3U\n{}\n",
    "pls": "[playlist]\nFile1={}\nNumberOfEntries=1\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="x"><Period><AdaptationSet>'
    "<Representation><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio {} RTP/AVP 0\n",
    "asx": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".wav", ".m3u8"])
def test_a_playlist_opens_nothing(tmp_path: Path, kind: str, suffix: str) -> None:
    secret = write_song(tmp_path / "secret.wav")
    with somebody_listening() as server:
        port = server.getsockname()[1]
        for target in (f"http://127.0.0.1:{port}/x.ts", str(secret), f"file:{secret}", "secret.wav", str(port)):
            (tmp_path / f"song{suffix}").write_text(PLAYLISTS[kind].format(target))
            with pytest.raises(InputError, match="not a sound file"):
                AudioReader(tmp_path / f"song{suffix}")
        with pytest.raises(BlockingIOError):
            server.accept()


# Pages


class Scripts(html.parser.HTMLParser):
    """Counts what a page would run, and keeps its text."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script" or any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.skipif(sys.platform == "win32", reason="names are tamer there")
def test_names_in_an_index_are_only_names(tmp_path: Path) -> None:
    folder = tmp_path / EVIL.replace("/", "")
    (folder / "song").mkdir(parents=True)
    for stem in ("vocals", EVIL.replace("/", "")):
        soundfile.write(folder / "song" / f"{stem}.wav", np.zeros((100, 1)), 8000)
    (song,) = songs_in(folder)
    page = Scripts()
    page.feed(write_index(folder, [type(song)(EVIL, song.stems, song.page, song.original)]).read_text("utf-8"))
    template = Scripts()
    template.feed(part("index.html"))
    assert page.scripts == template.scripts
    assert page.text.count(EVIL) == 1
    assert EVIL.replace("/", "") in page.text


# Headers


def test_a_header_takes_no_more_memory_than_it_has_bytes(tiny: Path, tmp_path: Path) -> None:
    """16 MiB of brackets, the most that is read, are refused at once."""
    for text in (b"[" * 2**24, b'{"__metadata__":{"a":"' + b"x" * (2**24 - 40) + b'"}}', b"9" * 2**20):
        path = tmp_path / "odd.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        with pytest.raises(CheckpointError, match="not a checkpoint of separate"):
            load(path)


def test_what_a_checkpoint_says_cannot_move_the_cursor(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    path = with_header(tiny, tmp_path / "odd.safetensors", licence="LicenseRef-research\x1b[2J\r\n\x9b1m")
    done = cli(song, "-m", path, "-o", tmp_path / "out", "--stems", "bass", "--wiener", 0)
    assert done.code == 0, done.err
    assert "\\x1b[2J" in done.err
    shown = cli("models", "show", path)
    for text in (done.err, shown.out, shown.err):
        assert not {"\x1b", "\r", "\x9b"} & set(text)
    assert os.linesep in done.err
