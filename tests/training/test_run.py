"""Whole runs: stopped and resumed, on one process and on two, interrupted, and resumed wrongly."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from separate.audio.fileset import lock
from separate.checkpoints.weights import read_header
from separate.errors import InputError, OutputError, SeparateError, UsageError
from separate.training.config import Recipe
from separate.training.loop import append
from separate.training.run import first, run_recipe
from separate.training.trainer import Trainer
from tests.training.conftest import TINY
from tests.training.corpora import registers, write_song


def quiet(message: str) -> None:
    """Say nothing."""


def changed(recipe: Recipe, **schedule: Any) -> Recipe:
    return dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, **schedule))


def weights(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    state = torch.load(run / "state.pt", weights_only=True)
    return {name: state[name] for name in ("model", "average")}


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return all(torch.equal(left[name][key], right[name][key]) for name in left for key in left[name])


# Fields of their own: turns that a stop falls into, dropout, and a seed.
WILD = dataclasses.replace(TINY, mixing=dataclasses.replace(TINY.mixing, turns=3, gain=4, equaliser=3, absent=0.1))
PLAIN = dataclasses.replace(
    changed(TINY, workers=0, optimiser="adam", ema=0, validate=0.0001),
    objective={"name": "log-mse"},
    model={"n_fft": 512, "hop": 128, "width": 32, "groups": 4, "wiener": 0},
)


@pytest.mark.parametrize("recipe", [WILD, PLAIN], ids=["bands", "waveforms"])
def test_stopping_and_going_on_changes_no_bit(songs: Path, tmp_path: Path, recipe: Recipe) -> None:
    recipe = changed(recipe, steps=7)
    pool = tmp_path / "pool"
    torch.manual_seed(99)
    assert run_recipe(recipe, [songs], tmp_path / "whole", pool=pool, say=quiet)
    torch.manual_seed(11)
    constant = changed(recipe, steps=4)
    assert run_recipe(constant, [songs], tmp_path / "parts", pool=pool, say=quiet)
    assert not same(tmp_path / "whole", tmp_path / "parts")
    assert run_recipe(recipe, [], tmp_path / "parts", pool=pool, say=quiet)  # the data are remembered
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert read_header(tmp_path / "parts/last.safetensors").training["steps"] == 7


def test_a_run_remembers_where_its_songs_are(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_song(tmp_path / "valid/a", registers(0.5, 7))
    places: dict[str, Any] = {"valid": Path("valid"), "pool": Path("pool")}
    assert run_recipe(changed(TINY, steps=4), [songs], tmp_path / "whole", **places, say=quiet)
    assert run_recipe(changed(TINY, steps=2), [songs], tmp_path / "parts", **places, say=quiet)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said: list[str] = []
    assert run_recipe(changed(TINY, steps=4), [], tmp_path / "parts", say=said.append)
    assert said[0] == "songs: 2 to learn from, 0.0 h; 1 to validate with"
    assert not [line for line in said if "began with" in line]
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert sorted(path.name for path in (tmp_path / "parts").glob("[!.]*") if path.is_dir()) == []
    others: dict[str, Any] = {"valid": songs, "pool": tmp_path / "another"}
    assert run_recipe(changed(TINY, steps=5), [], tmp_path / "parts", **others, say=said.append)
    assert "the songs to validate with are not those that the run began with" in said
    assert "the pool is not the one that the run began with" in said
    assert "the data are not those that the run began with" not in said


def test_songs_to_validate_with_are_not_learnt_from(songs: Path, tmp_path: Path) -> None:
    """A pool of a run with the same --valid holds those songs too."""
    write_song(tmp_path / "valid/a", registers(0.5, 7))
    run_recipe(changed(TINY, steps=1), [songs], tmp_path / "first", valid=tmp_path / "valid", say=quiet)
    said: list[str] = []
    pool = tmp_path / "first/pool"
    run_recipe(changed(TINY, steps=1), [pool], tmp_path / "second", valid=tmp_path / "valid", say=said.append)
    assert said[:2] == [
        "songs of --valid that are not learnt from: 1",
        "songs: 2 to learn from, 0.0 h; 1 to validate with",
    ]
    run_recipe(changed(TINY, steps=1), [songs], tmp_path / "third", valid=songs, say=said.append)
    assert any(line.startswith("the songs to validate with are those to learn from") for line in said)


def test_older_states_know_their_data_only(songs: Path, tmp_path: Path) -> None:
    run_recipe(TINY, [songs], tmp_path, say=quiet)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save({key: state[key] for key in state if key not in ("valid", "pool")}, tmp_path / "state.pt")
    said: list[str] = []
    assert run_recipe(changed(TINY, steps=11), [], tmp_path, valid=songs, say=said.append)
    assert not [line for line in said if "began with" in line]


def test_a_run_has_its_folder_for_itself(songs: Path, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("ab") as file:
        assert lock(file)
        with pytest.raises(OutputError, match="another run writes here: wait until it is through, or choose another"):
            run_recipe(TINY, [songs], tmp_path, say=quiet)
    assert run_recipe(TINY, [songs], tmp_path, say=quiet)


def test_rows_after_the_last_save_are_dropped(songs: Path, tmp_path: Path) -> None:
    recipe = changed(TINY, steps=3)
    assert run_recipe(recipe, [songs], tmp_path, say=quiet)
    before = {name: (tmp_path / name).read_bytes() for name in ("log.csv", "validation.csv")}
    for name in before:
        append(tmp_path / name, {"step": 17, "minutes": 1.0})  # then it was killed
    assert run_recipe(recipe, [], tmp_path, say=quiet)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert run_recipe(changed(TINY, steps=5), [], tmp_path, say=quiet)
    assert rows(tmp_path) == ["3", "5"]


@pytest.mark.parametrize("rank", [0, 1])
def test_if_the_first_process_fails_the_others_leave(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[float] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda flag, source: sent.append(float(flag)))
    here = torch.device("cpu")
    if rank:  # nothing comes, which is a failure
        with pytest.raises(SystemExit, match="1"), first(rank, here):
            raise AssertionError
        return
    with pytest.raises(InputError, match="no data"), first(rank, here):
        raise InputError("no data")
    with first(rank, here):
        assert sent == [0]
    assert sent == [0, 1]


def test_a_run_leaves_checkpoints_and_logs(songs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    per_step = TINY.mixing.batch * TINY.mixing.seconds / 3600
    recipe = changed(dataclasses.replace(TINY, licence="MIT", half=True), steps=40, validate=20 * per_step)
    assert run_recipe(recipe, [songs], tmp_path, say=said.append)
    for name in ("last", "best"):
        header = read_header(tmp_path / f"{name}.safetensors")
        assert header.licence == "MIT"
        assert header.training["data"] == [songs.name]
        assert str(songs) not in str(header.training)  # where it lies on this machine is nobody's business
    assert set(read_header(tmp_path / "best.safetensors").training["validation"]) == {
        "vocals",
        "drums",
        "bass",
        "other",
    }
    log, validation = ((tmp_path / f"{name}.csv").read_text().splitlines() for name in ("log", "validation"))
    assert log[0] == "step,minutes,loss,times_real_time,waiting"
    assert log[-1].split(",")[0] == "40"
    assert 0 <= float(log[-1].split(",")[4]) < 1
    assert validation[0] == "step,minutes,loss,vocals,drums,bass,other"
    assert [row.split(",")[0] for row in validation[1:]] == ["20", "40"]
    assert said[0].startswith("songs: 1 to learn from, 0.0 h; 1 to validate with")
    assert any("validation loss" in line and "(best); SDR in dB: vocals" in line for line in said)


def rows(run: Path) -> list[str]:
    return [row.split(",")[0] for row in (run / "validation.csv").read_text().splitlines()[1:]]


def worse(run: Path) -> int:
    progress: tuple[float, ...] = torch.load(run / "state.pt", weights_only=True)["progress"]
    return int(progress[4])


def test_a_finished_run_is_validated_once(songs: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert run_recipe(changed(TINY, steps=3), [songs], tmp_path, say=quiet)
    assert rows(tmp_path) == ["3"]
    assert worse(tmp_path) == 0


def test_a_validation_that_fails_loses_nothing(songs: Path, tmp_path: Path) -> None:
    recipe = changed(TINY, steps=3)
    none = dataclasses.replace(recipe, data=dataclasses.replace(TINY.data, clips=0))
    with pytest.raises(ValueError, match="mean requires"):
        run_recipe(none, [songs], tmp_path, say=quiet)
    assert run_recipe(recipe, [], tmp_path, say=quiet)
    assert rows(tmp_path) == ["3"]
    progress = torch.load(tmp_path / "state.pt", weights_only=True)["progress"]
    assert progress[0] == 3
    assert math.isfinite(progress[3])  # the least loss


def test_steps_are_counted_in_full(tmp_path: Path) -> None:
    append(tmp_path / "log.csv", {"step": 1234567, "loss": 1 / 3})
    assert (tmp_path / "log.csv").read_text().splitlines()[1] == "1234567,0.333333"


@pytest.mark.parametrize(("held", "missing"), [(0, "validate with"), (1, "learn from")])
def test_songs_to_learn_from_and_to_validate_with_are_needed(
    songs: Path, tmp_path: Path, held: float, missing: str
) -> None:
    recipe = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, held=held))
    with pytest.raises(UsageError, match=rf"\[data\] held = {held} leaves no song to {missing}; .* --valid"):
        run_recipe(recipe, [songs], tmp_path, say=quiet)


def test_without_progress_it_stops(songs: Path, tmp_path: Path) -> None:
    recipe = changed(TINY, steps=500, validate=1e-9, patience=2, rate=0.0)  # it learns nothing
    assert run_recipe(recipe, [songs], tmp_path, say=quiet)
    assert read_header(tmp_path / "last.safetensors").training["steps"] == 3


def test_epochs_count_how_often_all_was_heard(songs: Path, tmp_path: Path) -> None:
    run_recipe(changed(TINY, steps=0, epochs=1.5), [songs], tmp_path, say=quiet)  # one song of a second
    assert read_header(tmp_path / "last.safetensors").training["steps"] == 8  # of 0.2 s each


def test_ctrl_c_finishes_the_step_and_saves(songs: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def say(message: str) -> None:
        said.append(message)
        if "to learn from" in message:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    before = signal.getsignal(signal.SIGINT)
    assert not run_recipe(changed(TINY, steps=100_000), [songs], tmp_path, say=say)
    assert signal.getsignal(signal.SIGINT) is before
    steps = read_header(tmp_path / "last.safetensors").training["steps"]
    assert torch.load(tmp_path / "state.pt", weights_only=True)["progress"][0] == steps
    assert run_recipe(changed(TINY, steps=steps + 1), [], tmp_path, say=quiet)


@pytest.mark.parametrize(("key", "wrong"), [("model", {}), ("optimisers", [{}]), ("progress", (1, 2)), ("average", 5)])
def test_what_a_state_holds_may_be_damaged_too(songs: Path, tmp_path: Path, key: str, wrong: object) -> None:
    run_recipe(PLAIN, [songs], tmp_path, say=quiet)
    torch.save(torch.load(tmp_path / "state.pt", weights_only=True) | {key: wrong}, tmp_path / "state.pt")
    with pytest.raises(InputError, match=r"state\.pt: is no run's state, or a damaged one"):
        run_recipe(PLAIN, [songs], tmp_path, say=quiet)


def test_a_loss_that_is_no_number_ends_the_run(songs: Path, tmp_path: Path) -> None:
    loud = dataclasses.replace(PLAIN, mixing=dataclasses.replace(TINY.mixing, scale=(1e38, 1e38)))
    with pytest.raises(SeparateError, match="step 1: loss nan, gradient nan; what was saved last is kept"):
        run_recipe(loud, [songs], tmp_path, say=quiet)
    assert not (tmp_path / "state.pt").exists()


@pytest.mark.parametrize("state", [None, {"a": 1}, {"recipe": {}}, torch.zeros(3), [1]], ids=repr)
def test_what_is_no_state_is_named(songs: Path, tmp_path: Path, state: object) -> None:
    if state is None:
        (tmp_path / "state.pt").write_text("nothing")
    else:
        torch.save(state, tmp_path / "state.pt")
    with pytest.raises(InputError, match=r"state\.pt: is no run's state, or a damaged one"):
        run_recipe(TINY, [songs], tmp_path, say=quiet)


TWO = """
import sys
from pathlib import Path
from tests.training.test_run import TWO_RANKS
from separate.training.run import run_recipe
import torch, torch.distributed as dist
from separate.training import run as module
train = module.train
def keep(trainer, *args, **more):
    done = train(trainer, *args, **more)
    torch.save(trainer.model.state_dict(), Path(sys.argv[2]) / f"rank{trainer.rank}.pt")
    return done
module.train = keep
assert run_recipe(TWO_RANKS, [Path(sys.argv[1])], Path(sys.argv[2]), say=print)
"""

TWO_RANKS = changed(dataclasses.replace(PLAIN, mixing=dataclasses.replace(TINY.mixing, batch=4)), steps=10)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(songs: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(songs), str(tmp_path)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=200) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], outputs
    assert outputs[1][0] == ""  # one speaks for all
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert run_recipe(TWO_RANKS, [songs], tmp_path / "alone", say=quiet)
    alone = weights(tmp_path / "alone")["model"]
    start = Trainer(TWO_RANKS).model.state_dict()
    # Gradients are rounded otherwise, and Adam makes much of the little ones: of all that was learnt, some per cent.
    apart, moved = (
        math.sqrt(sum(float((weight - other[name]).square().sum()) for name, weight in first.items()))
        for other in (alone, start)
    )
    assert apart < 0.05 * moved
    losses = [float(row.split(",")[2]) for row in (tmp_path / "validation.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.95 * losses[0]
