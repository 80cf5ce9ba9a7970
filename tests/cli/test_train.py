"""`separate train`: what users type, and what they get when it is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from separate.checkpoints.weights import load
from tests.conftest import Outcome
from tests.training.corpora import registers, write_song

Cli = Callable[..., Outcome]

RECIPE = """
base = "d2-gru"
[model]
n_fft = 1024
hop = 256
bins = 400
bands = 48
width = 48
groups = 4
gru_dilation = [2, 2]
conv_dilation = [2, 4]
[data]
clips = 2
[mixing]
batch = 3
seconds = 0.5
[schedule]
minutes = 0
steps = 40
rate = 1e-2
ema = 0.9
validate = 0
precision = "float32"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt every run at once."""
    monkeypatch.setattr("separate.training.run.run_recipe", lambda *words, **more: False)


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s of four stems that a small net can tell apart."""
    return write_song(tmp_path_factory.mktemp("data") / "song", registers(20.0)).parent


@pytest.mark.slow
def test_a_tiny_recipe_overfits_twenty_seconds(cli: Cli, recipe: Path, stems: Path, tmp_path: Path) -> None:
    done = cli("train", recipe, "--data", stems, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "songs: 1 to learn from, 0.01 h; 1 to validate with" in done.err
    truth = {s: torch.from_numpy(soundfile.read(stems / "song" / f"{s}.wav", dtype="float32")[0].T) for s in STEMS}
    mixture = sum(truth.values(), torch.zeros(()))
    estimate = load(tmp_path / "run/best.safetensors")(mixture[None])[0]
    for stem, x in zip(STEMS, estimate, strict=True):
        sdr = 10 * torch.log10(truth[stem].square().sum() / (truth[stem] - x).square().sum())
        assert float(sdr) > 10, stem
    # The checkpoint is one that the first command takes.
    song = tmp_path / "song.wav"
    soundfile.write(song, np.asarray(mixture[:, :44100]).T, 44100)
    assert cli(song, "--model", tmp_path / "run/last.safetensors", "--out", tmp_path / "out").code == 0
    # And the run can go on, but not by accident.
    again = cli("train", recipe, "--data", stems, "--out", tmp_path / "run")
    assert again.code == 2
    assert "holds a run already; go on with it by --resume" in again.err
    assert cli("train", recipe, "--resume", "--out", tmp_path / "run").code == 0
    other = cli("train", recipe, "--resume", "--out", tmp_path / "run", "--seed", 5)
    assert other.code == 2
    assert "schedule.seed was 0 and is 5" in other.err


STEMS = ("vocals", "drums", "bass", "other")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["RECIPE"], 2, "there is nothing to learn from: name folders of songs with --data"),
        (["RECIPE", "--data", "none"], 2, "none: no such folder"),
        (["RECIPE", "--data", "empty"], 1, "empty: no sound files in this folder"),
        (["RECIPE", "--data", "empty", "--resume"], 2, "runs/tiny: holds no run to go on with"),
        (["RECIPE", "--data", "empty", "--start", "none.safetensors"], 3, "none.safetensors: cannot be read"),
        (["RECIPE", "--data", "empty", "--minutes", "-1"], 2, "--minutes and --seed must be from 0 to 4294967295"),
        (["RECIPE", "--data", "empty", "--minutes", "nan"], 2, "--minutes and --seed must be from 0 to 4294967295"),
        (["RECIPE", "--data", "empty", "--seed", "18446744073709551616"], 2, "--minutes and --seed must be from 0"),
        (["RECIPE", "--data", "empty", "--device", "toaster"], 2, "unknown device 'toaster'"),
        (["none.toml", "--data", "empty"], 2, "none.toml: cannot be read: No such file"),
        (["nothing", "--data", "empty"], 2, "no recipe 'nothing': give a .toml file or one of "),
        (["wrong.toml", "--data", "empty"], 2, "wrong.toml: [schedule] unknown key 'minuts'"),
        (["wide.toml", "--data", "empty"], 2, "[model] d2-gru has no setting 'widht'"),
        (["text.toml", "--data", "empty"], 2, "text.toml: not TOML"),
        (["still.toml", "--data", "empty"], 2, "still.toml: [mixing] batch must be from 1 to 10000, got 0"),
        ([], 2, "Missing argument 'RECIPE'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    cli: Cli, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], code: int, complaint: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.toml").write_text("[schedule]\nminuts = 3\n")
    (tmp_path / "wide.toml").write_text("[model]\nwidht = 3\n")
    (tmp_path / "text.toml").write_text("train well\n")
    (tmp_path / "still.toml").write_text("[mixing]\nbatch = 0\n")
    done = cli("train", *(str(recipe) if word == "RECIPE" else word for word in arguments))
    assert done.code == code, done.err
    [line] = done.err.strip().splitlines()
    assert complaint in line


def test_what_a_run_does_not_remember_is_said_again(cli: Cli, recipe: Path, tmp_path: Path, stopped: None) -> None:
    words = ["--seed", 5, "--minutes", 2.5, "--device", "cpu", "--pool", tmp_path / "pool", "--valid", tmp_path]
    done = cli("train", recipe, "--data", tmp_path, "--out", tmp_path / "a run", *words)
    assert done.code == 130
    assert done.err == (
        f"interrupted; go on with: separate train {recipe} --out '{tmp_path}/a run' "
        "--minutes 2.5 --seed 5 --device cpu --resume\n"
    )


def test_one_process_speaks_for_all(
    cli: Cli, recipe: Path, tmp_path: Path, stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        done = cli("train", recipe, "--data", tmp_path, "--out", tmp_path / "run")
        assert done.code == 130
        assert len(done.err.splitlines()) == lines


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(recipe: Path, stems: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE.replace("steps = 40", "steps = 100000"))
    words = ["-m", "separate", "train", recipe, "--data", stems, "--out", tmp_path / "a run"]
    running = subprocess.Popen([sys.executable, *map(str, words)], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    while "to learn from" not in running.stderr.readline():
        pass
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.splitlines()[-1] == (
        f"interrupted; go on with: separate train {recipe} --out '{tmp_path}/a run' --resume"
    )
    assert (tmp_path / "a run/state.pt").exists()
    assert not re.search("Traceback", said)
