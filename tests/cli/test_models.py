"""`separate models`: list, show, pull, verify and remove, against a small hub on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import soundfile

from separate.checkpoints.lock import read_lock
from separate.checkpoints.registry import registry
from separate.checkpoints.resolve import resolve, where
from tests.checkpoints.hub import ROW, Hub, environment, running_hub, use
from tests.conftest import Outcome, music
from tests.models.peers import TRANSFORMER, WAVES, publish, theirs

Cli = Callable[..., Outcome]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> Iterator[Hub]:
    """Serve a checkpoint, and know it by two names of the user's own."""
    settings = tmp_path / "settings/separate"
    settings.mkdir(parents=True)
    rows = [("far", "hf:someone/music/net.safetensors", "MIT"), ("bound", "hf:someone/bound", "unknown")]
    text = "".join(ROW.format(name=name, source=source, licence=licence) for name, source, licence in rows)
    (settings / "checkpoints.toml").write_text(text)
    with running_hub() as hub:
        use(hub, tmp_path, monkeypatch)
        hub.add("someone/music", {"net.safetensors": tiny.read_bytes()})
        hub.add("someone/bound", {"net.safetensors": tiny.read_bytes() + b"x"})
        yield hub


def test_list_says_what_is_here_and_how_to_get_the_rest(cli: Cli, hub: Hub) -> None:
    listed = cli("models").out
    assert listed == cli("models", "list").out
    assert "d2-gru  here\n" in listed
    assert "far  not here: separate models pull far\nfar for tests\n" in listed
    assert "44.1 kHz · 84 MB · MIT · htdemucs · hf:adefossez/HTDemucs/htdemucs.yaml" in listed
    assert "SDR 9.0 dB on average (MUSDB18-HQ test; by its authors" in listed
    resolve("far")
    assert "far  here\n" in cli("models").out
    rows = {row["name"]: row for row in json.loads(cli("models", "list", "--json").out)}
    assert list(rows) == list(registry())
    assert (rows["far"]["here"], rows["bound"]["here"], rows["bound"]["free"]) == (True, False, False)


def test_show_tells_what_is_known_without_fetching(cli: Cli, hub: Hub) -> None:
    before = cli("models", "show", "far")
    assert before.code == 0
    assert "source: hf:someone/music/net.safetensors" in before.out
    assert "`separate models pull far`" in before.out
    assert not [line for line in before.out.splitlines() if line.endswith(":")]  # what is not known is not there
    unknown = cli("models", "show", "hf:someone/music/net.safetensors")
    assert (unknown.code, hub.asked) == (3, [])
    assert "not here; fetch it by `separate models pull hf:someone/music/net.safetensors`" in unknown.err
    cli("models", "pull", "far")
    for name in ("far", "hf:someone/music/net.safetensors"):
        assert json.loads(cli("models", "show", name, "--json").out)["config"]["bands"] == 32


def test_what_a_published_file_does_not_say_the_registry_does(
    cli: Cli, hub: Hub, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings/separate/checkpoints.toml"
    row = ROW.format(name="theirs", source="hf:someone/demucs/bag.yaml", licence="MIT")
    settings.write_text(settings.read_text() + row)
    waves = publish(theirs("Demucs", **WAVES, segment=1), tmp_path / "waves.safetensors")
    files = {"bag.yaml": b"models: [waves]", "waves.safetensors": waves.read_bytes()}
    hub.add("someone/demucs", files)
    hub.add("someone/else", files)
    for name, licence in [
        ("theirs", "MIT"),
        ("hf:someone/demucs", "MIT"),
        ("hf:someone/demucs/waves.safetensors@main", "MIT"),
        ("hf:someone/else", "unknown"),
        (str(waves), "unknown"),
    ]:
        cli("models", "pull", name, "--quiet")
        assert json.loads(cli("models", "show", name, "--json").out)["licence"] == licence
        said = cli(song, "--model", name, "--out", tmp_path / "out", "--force", "--device", "cpu").err
        assert (f"{name}: nobody says what it may be used for (licence: unknown)" in said) == (licence == "unknown")


def test_pull_fetches_and_asks_for_newer_ones(cli: Cli, hub: Hub, tiny: Path) -> None:
    done = cli("models", "pull", "far")
    assert done.code == 0
    assert done.out == f"far: here, {tiny.stat().st_size / 1e6:.2f} MB, {where('far')}\n".replace("0 MB", " MB")
    assert f"fetching {tiny.stat().st_size / 1e3:.1f} kB into" in done.err
    quiet = cli("models", "pull", "far", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    hub.add("someone/music", {"net.safetensors": tiny.read_bytes() + b"newer"})
    old = where("far")
    (pulled,) = json.loads(cli("models", "pull", "far", "--json", "--quiet").out)
    assert pulled["status"] == "here"
    assert pulled["file"] == str(where("far")) != str(old)


def test_pull_of_all_that_is_free_leaves_out_what_is_not(cli: Cli, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    done = cli("models", "pull", "--all-free", "--json", "--quiet")
    pulled = {row["name"]: row["status"] for row in json.loads(done.out)}
    free = {row.name for row in registry().values() if row.free}
    assert pulled.keys() == free
    assert {"far", "d2-gru"} <= free
    assert not {"bound", "d2-gru-research"} & free
    assert (pulled["far"], pulled["d2-gru"]) == ("here", "here")
    assert pulled["htdemucs"] == "failed"  # this hub does not have it
    assert done.code == 3
    assert "hf:adefossez/HTDemucs/htdemucs.yaml: no such repository" in done.err


def test_one_that_fails_stops_no_other(cli: Cli, hub: Hub) -> None:
    done = cli("models", "pull", "fra", "far")
    assert done.code == 3
    assert "did you mean far" in done.err
    assert done.out.startswith("far: here, ")
    assert cli("models", "pull").code == 2


def test_verify_notices_damage_and_pull_mends_it(cli: Cli, hub: Hub) -> None:
    assert cli("models", "verify", "far").code == 3
    cli("models", "pull", "far")
    verified = cli("models", "verify")
    assert verified.code == 0
    assert [line.partition(",")[0] for line in verified.out.splitlines()] == [
        "d2-gru: intact",
        "d2-gru-research: intact",
        "far: intact",
    ]
    path = resolve("far").resolve()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    damaged = cli("models", "verify", "d2-gru", "far")
    assert damaged.code == 3
    assert "d2-gru: intact" in damaged.out
    assert damaged.err == "separate: far: damaged: net.safetensors; `separate models pull far` mends it\n"
    assert cli("models", "pull", "far", "--quiet").code == 0
    assert cli("models", "verify", "far").code == 0


def test_remove_frees_what_nothing_else_needs(cli: Cli, hub: Hub, tiny: Path) -> None:
    commit = hub.add("someone/music", {"again.safetensors": tiny.read_bytes()})
    cli("models", "pull", "far", f"hf:someone/music/again.safetensors@{commit}")
    blob = resolve("far").resolve()
    assert cli("models", "remove", "far").out == "far: removed\n"  # the name of a blob that has another
    assert where("far") is None
    again = f"hf:someone/music/again.safetensors@{commit}"
    assert resolve(again).resolve() == blob
    (removed,) = json.loads(cli("models", "remove", again, "--json").out)
    assert removed == {"name": again, "status": "removed", "megabytes": removed["megabytes"], "error": None}
    assert removed["megabytes"] == round(tiny.stat().st_size / 1e6, 2)
    assert not blob.exists()
    assert cli("models", "remove", "far").out == "far: was not here\n"
    assert cli("models", "remove", "d2-gru").code == 3
    assert cli("models", "pull", "far").code == 0


def test_remove_takes_older_versions_and_unfinished_transfers_too(cli: Cli, hub: Hub, tiny: Path) -> None:
    cli("models", "pull", "far")
    hub.add("someone/music", {"net.safetensors": tiny.read_bytes() + b"newer"})
    cli("models", "pull", "far")
    blobs = resolve("far").resolve().parent
    (blobs / "abc.separate.incomplete").write_bytes(bytes(1_000_000))
    assert len(list(blobs.iterdir())) == 3
    assert cli("models", "remove", "far").out.startswith("far: removed, 1.1")
    assert not list(blobs.iterdir())
    assert read_lock() == {}


def test_a_registry_of_ones_own(
    cli: Cli, hub: Hub, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEPARATE_REGISTRY", "")
    mine = tmp_path / "mine.toml"
    mine.write_text(ROW.format(name="mine", source=f"file:{tiny}", licence="MIT"))
    rows = json.loads(cli("models", "--registry", mine, "--json").out)
    assert (rows[-1]["name"], rows[-1]["here"]) == ("mine", True)
    assert cli("models", "show", "mine", "--registry", mine).code == 0
    monkeypatch.setenv("SEPARATE_REGISTRY", "")
    assert cli("models", "show", "mine").code == 3
    mine.with_name("bad.toml").write_text("[a]\nsource = 1\n")
    bad = cli("models", "--registry", mine.with_name("bad.toml"))
    assert (bad.code, bad.out) == (3, "")
    assert "bad.toml: [a] must have the keys architecture, licence, " in bad.err
    missing = cli("models", "list", "--registry", tmp_path / "no.toml")
    assert "no.toml: not a registry of checkpoints" in missing.err


def test_a_row_of_ours_from_its_name_to_its_stems(cli: Cli, hub: Hub, tmp_path: Path) -> None:
    # A repository as the registry says that it is: a bag of four, in the format of the authors' package.
    names = ["f7e0c4bc", "d12395a8", "92cfc3b6", "04573f0d"]
    eye = [[float(i == j) for j in range(4)] for i in range(4)]
    files = {"htdemucs_ft.yaml": f"models: {names}\nweights: {eye}\n".encode()}
    for seed, name in enumerate(names):
        model = theirs("HTDemucs", seed, segment=Fraction(1, 4), **TRANSFORMER)
        files[f"{name}.safetensors"] = publish(model, tmp_path / "net.safetensors", half=True).read_bytes()
    hub.add("adefossez/HTDemucs-ft", files)
    soundfile.write(song := tmp_path / "song.wav", music(0.5, 44100).T, 44100)
    done = cli(song, "--model", "htdemucs_ft", "--out", tmp_path / "out", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert {path.stem for path in (tmp_path / "out").rglob("*.wav")} == {"drums", "bass", "other", "vocals"}
    assert len(hub.transfers()) == 4
    size = round(sum(map(len, files.values())) / 1e6, 2)
    assert cli("models", "verify", "htdemucs_ft").out.startswith(f"htdemucs_ft: intact, {size:g} MB, ")
    shown = json.loads(cli("models", "show", "htdemucs_ft", "--json").out)
    assert (shown["licence"], shown["stems"], shown["megabytes"]) == ("MIT", model.sources, size)
    where_last(names[-1]).unlink()
    assert cli("models", "verify", "htdemucs_ft").code == 3
    assert cli("models", "pull", "htdemucs_ft", "--quiet").code == 0
    assert len(hub.transfers()) == 4  # its blob was still there


def where_last(name: str) -> Path:
    path = where("htdemucs_ft")
    assert path is not None
    return path.with_name(f"{name}.safetensors")


def test_an_interrupt_leaves_what_has_come(hub: Hub, tmp_path: Path) -> None:
    hub.slow = threading.Event()
    command = [sys.executable, "-m", "separate", "models", "pull", "hf:someone/music"]
    environ = {**os.environ, **environment(hub, tmp_path)}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert hub.halfway.wait(60)
        while not any(part.stat().st_size for part in tmp_path.rglob("*.separate.incomplete")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        error = process.communicate()[1]
    assert process.returncode == 130
    assert error.endswith("separate: interrupted; what has come so far is kept\n")
    assert "Traceback" not in error
    (part,) = tmp_path.rglob("*.separate.incomplete")
    assert part.stat().st_size


def test_what_was_pulled_separates_without_a_network(hub: Hub, song: Path, tmp_path: Path) -> None:
    def separate(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "separate", *map(str, arguments)]
        settings = environment(hub, tmp_path, XDG_CONFIG_HOME=str(tmp_path / "settings"), **more)
        return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)

    out = tmp_path / "out"
    refused = separate(song, "--model", "far", "--out", out, HF_HUB_OFFLINE="1")
    assert refused.returncode == 3
    assert refused.stderr.startswith("separate: hf:someone/music/net.safetensors: not in the cache, and HF_HUB_OFFLINE")
    assert "`separate models pull far`" in refused.stderr
    assert not out.exists()
    assert separate("models", "pull", "far").returncode == 0
    asked = len(hub.asked)
    done = separate(song, "--model", "far", "--out", out, HF_HUB_OFFLINE="1")
    assert (done.returncode, len(hub.asked)) == (0, asked)
    assert len(list(out.rglob("*.wav"))) == 4
