"""Checkpoints that are damaged, and what a run needs that vanishes in the midst of it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from separate.checkpoints import registry
from separate.checkpoints.resolve import resolve
from separate.checkpoints.weights import load
from separate.errors import CheckpointError
from tests.checkpoints.hub import running_hub, use
from tests.conftest import Outcome
from tests.faults.conftest import TRIALS, Bench

Cli = Callable[..., Outcome]
Damage = Callable[[bytearray, random.Random], None]


def flip(content: bytearray, dice: random.Random) -> None:
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def flip_header(content: bytearray, dice: random.Random) -> None:
    content[dice.randrange(8 + int.from_bytes(content[:8], "little"))] ^= 1 << dice.randrange(8)


def truncate(content: bytearray, dice: random.Random) -> None:
    del content[dice.randrange(len(content)) :]


def empty(content: bytearray, dice: random.Random) -> None:
    content.clear()


@pytest.mark.parametrize(("damage", "trials"), [(flip, 8), (flip_header, 8), (truncate, 8), (empty, 1)])
def test_the_bundled_checkpoint_is_damaged(
    cli: Cli, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage, trials: int
) -> None:
    whole = (registry.BUNDLED / "d2-gru.safetensors").read_bytes()
    monkeypatch.setattr(registry, "BUNDLED", tmp_path)
    dice = random.Random(damage.__name__)
    for _ in range(trials):
        content = bytearray(whole)
        damage(content, dice)
        (tmp_path / "d2-gru.safetensors").write_bytes(content)
        done = cli(song, "-o", tmp_path / "out", "-q")
        TRIALS["a damaged checkpoint"] += 1
        assert done.code == 3, done.err
        assert done.err == (
            f"separate: d2-gru: its file {tmp_path}/d2-gru.safetensors is damaged: install the package again\n"
        )
        assert not (tmp_path / "out").exists()
    (tmp_path / "d2-gru.safetensors").write_bytes(whole)
    assert resolve("d2-gru") == tmp_path / "d2-gru.safetensors"


def test_a_checkpoint_that_ends_anywhere(tiny: Path, tmp_path: Path) -> None:
    content, path = tiny.read_bytes(), tmp_path / "cut.safetensors"
    ends = [0, 1, 7, 8, 9, len(content) - 1, *random.Random(0).sample(range(len(content)), 30)]
    for end in ends:
        path.write_bytes(content[:end])
        TRIALS["a damaged checkpoint"] += 1
        with pytest.raises(CheckpointError) as error:
            load(path)
        assert str(error.value).startswith(f"{path}: ")
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("what", ["checkpoint", "cache"])
def test_what_vanishes(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A checkpoint, or the hub's cache, is gone before the n-th look at it."""
    folder = bench.nursery.folder / "home" if what == "cache" else tmp_path / "folder"
    song = bench.folder / "songs" / "0.wav"
    model = "hf:someone/music/net.safetensors" if what == "cache" else str(folder / "tiny.safetensors")

    def make() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if what == "cache":
            shutil.copytree(tmp_path / "hub", folder / "hub", symlinks=True)
        else:
            shutil.copy(bench.tiny, folder)

    if what == "cache":
        with running_hub() as hub:
            use(hub, tmp_path, monkeypatch)
            hub.add("someone/music", {"net.safetensors": bench.tiny.read_bytes()})
            resolve("hf:someone/music/net.safetensors", quiet=True)
    make()
    words = [song, "-m", model, "-q", "--wiener", 0, "--stems", "vocals,bass", "--name", "tiny/{track}/{stem}.{ext}"]
    calm = bench.nursery.run(*words, "-o", tmp_path / "out", below=folder)
    assert calm.code == 0, calm
    bench.check(tmp_path / "out", calm)
    codes = set()
    for at in range(1, 1 + len(calm.operations)):
        make()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        run = bench.nursery.run(*words, "-o", tmp_path / "out", below=folder, at=at, vanishes=str(folder))
        TRIALS[f"{what} gone before a look at it, each in turn"] += 1
        bench.check(tmp_path / "out", run)
        codes.add(run.code)
    assert codes == {3}


def test_a_song_that_vanishes(bench: Bench, tmp_path: Path) -> None:
    """When its sound has been read, only its tags are missing, and that is said."""
    folder = tmp_path / "folder"
    words = [folder / "0.wav", "-m", bench.tiny, "--wiener", 0, "--stems", "vocals,bass", "-o", tmp_path / "out"]
    said = []
    for at in range(1, 5):
        folder.mkdir()
        shutil.copy(bench.folder / "songs" / "0.wav", folder)
        run = bench.nursery.run(*words, below=folder, at=at, vanishes=str(folder))
        TRIALS["song gone before a look at it, each in turn"] += 1
        said.append((run.code, run.said[0]))
        assert len(list((tmp_path / "out").rglob("*.wav"))) == (0 if run.code else 2), run
    song = f"separate: {folder}/0.wav"
    assert said[0] == said[1] == (1, f"{song}: no such file")
    assert said[2] == (1, f"{song}: cannot be read any more: No such file or directory")
    assert said[3][0] == 0
    assert said[3][1].startswith(f"{folder}/0.wav: tags could not be read: ")
