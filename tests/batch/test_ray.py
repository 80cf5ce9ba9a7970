"""Who gets what of a cluster, in which order songs go out, and what becomes of those whose workers are lost."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from separate.audio.url import Location
from separate.batch.cluster import Share, choose_share, connected
from separate.batch.job import Job, Output
from separate.batch.ray import Crew, Task, Team, Worker, probing
from separate.errors import OutputError, UsageError
from tests.batch.songs import write_song


@pytest.mark.parametrize(
    ("machines", "device", "per_gpu", "share"),
    [
        ([{"CPU": 8}], "auto", 1, Share(4, threads=4)),
        ([{"CPU": 8}, {"CPU": 6}], "auto", 1, Share(2, threads=2)),
        ([{"CPU": 8}, {"CPU": 9}], "auto", 1, Share(1, threads=1)),
        ([{"CPU": 0}, {"CPU": 6}], "auto", 1, Share(3, threads=3)),  # a head that only directs
        ([{}], "auto", 1, Share(1, threads=1)),
        ([{"CPU": 64, "GPU": 8}, {"CPU": 64}], "auto", 1, Share(1, 1, 8)),
        ([{"CPU": 64, "GPU": 8}], "auto", 4, Share(1, 0.25, 2)),
        ([{"CPU": 4, "GPU": 4}], "auto", 2, Share(0.5, 0.5, 1)),
        ([{"CPU": 0, "GPU": 4}], "auto", 2, Share(0, 0.5, 1)),
        ([{"CPU": 64, "GPU": 8}], "cpu", 1, Share(4, threads=4)),
        ([{"CPU": 8}], "cuda", 2, Share(1, 0.5, 1)),  # machines with GPUs may come later
    ],
)
def test_what_a_worker_gets(machines: list[dict[str, float]], device: str, per_gpu: int, share: Share) -> None:
    assert choose_share(machines, device, per_gpu) == share


def test_the_number_of_threads_can_be_chosen() -> None:
    assert choose_share([{"CPU": 8}], "auto", 1, "3") == Share(3, threads=3)
    assert (
        choose_share([{"CPU": 8}], "auto", 1, "0") == choose_share([{"CPU": 8}], "auto", 1, "x") == Share(4, threads=4)
    )


@pytest.mark.parametrize(
    ("share", "machine", "number"),
    [
        (Share(4), {"CPU": 16}, 4),
        (Share(3), {"CPU": 16}, 5),
        (Share(1), {}, 0),
        (Share(1, 1 / 3), {"CPU": 64, "GPU": 8}, 24),
        (Share(1, 1), {"CPU": 4, "GPU": 8}, 4),
        (Share(0.5, 0.5), {"CPU": 4, "GPU": 4}, 8),
        (Share(0, 0.5), {"GPU": 4}, 8),
        (Share(1, 1), {"CPU": 64}, 0),
    ],
)
def test_how_many_workers_a_machine_holds(share: Share, machine: dict[str, float], number: int) -> None:
    assert share.fits(machine) == number


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Team, list[str]]:
    """A team for which no machine works yet, and what it says."""
    monkeypatch.setattr("separate.batch.ray.machines", lambda: [{"CPU": 1}])
    said: list[str] = []
    return Team(Crew("local", {}, Output(), retries=2), said.append, None), said


def test_the_longest_song_of_the_window_goes_first(team: tuple[Team, list[str]], tmp_path: Path) -> None:
    songs = [write_song(tmp_path / f"{name}.wav", length) for name, length in (("b", 0.2), ("c", 0.1), ("a", 0.3))]
    for song in [*songs, tmp_path / "gone.wav"]:
        team[0].add(Task(Job(str(song), {})))
    order = [Path(task.job.song).stem for _, _, task in sorted(team[0].waiting)]
    assert order == ["a", "b", "c", "gone"]


def test_the_window_is_small(team: tuple[Team, list[str]]) -> None:
    taken = 0
    while team[0].eager:
        team[0].add(Task(Job("song", {})))
        taken += 1
    assert taken == 8


@pytest.mark.parametrize(
    ("device", "threads", "said"),
    [
        ("cuda", "", "needs 1 GPU and 1 CPU, and this machine has 2 CPU; choose --device cpu"),
        ("auto", "4", "needs 4 CPU, and this machine has 2 CPU; set OMP_NUM_THREADS to less"),
    ],
)
def test_a_machine_alone_that_cannot_hold_a_worker_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, threads: str, said: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(
        "separate.batch.ray.machines", lambda: [{"CPU": 2.0, "memory": 1e9, "node:__internal_head__": 1}]
    )
    with pytest.raises(UsageError, match=f"^--cluster local: a worker {said}$"):
        Team(Crew("local", {}, Output(), device=device), print, None).give()
    Team(Crew("auto", {}, Output(), device=device), print, None).give()  # where a machine may still come


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("local", "--cluster local: Ray did not start here: The node timed out.; its logs tell more, see /tmp/ray"),
        ("auto", "--cluster auto: The node timed out.; is its head running"),
    ],
)
def test_a_ray_that_does_not_start_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    def init(*args: object, **more: object) -> None:
        raise Exception("The node timed out.\nThis could have many reasons.")  # Ray does so

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(UsageError) as error, connected(address):
        pass
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_a_song_is_tried_again_twice_and_then_given_up(team: tuple[Team, list[str]], tmp_path: Path) -> None:
    crew, said = team
    task = Task(Job("a\nb.wav", {"vocals": tmp_path / "x" / "vocals.wav"}))
    for number in range(1, 3):
        assert crew.lost(task, "its machine is gone") is None
        assert task.job.replace
        assert [again for *_, again in crew.waiting] == [task]
        assert said == ["a\\nb.wav: its worker was lost (its machine is gone), another one tries"] * number
        crew.waiting.clear()
    result = crew.lost(task, "memory ran out")
    assert result is not None
    assert result.status == "failed"
    assert str(result.error).startswith("a\\nb.wav: given up, 3 workers ended over it (memory ran out)")


def test_what_a_lost_worker_left_is_removed_but_not_what_others_write(
    team: tuple[Team, list[str]], tmp_path: Path
) -> None:
    crew, _ = team
    parts = [(tmp_path / folder / f".{number:012x}.part") for number, folder in enumerate("xyy")]
    for part in parts:
        part.parent.mkdir(exist_ok=True)
        part.touch()
    crew.busy["ref"] = ("worker", Task(Job("c.wav", {"vocals": tmp_path / "y" / "c.wav"})))
    stems: dict[str, Location] = {"vocals": tmp_path / "x" / "vocals.wav", "drums": tmp_path / "y" / "drums.wav"}
    assert crew.lost(Task(Job("song.wav", stems)), "its machine is gone") is None
    assert [part.exists() for part in parts] == [False, True, True]
    assert crew.left == {tmp_path / "y"}


def test_the_file_by_which_workers_know_the_folder_stays(team: tuple[Team, list[str]], tmp_path: Path) -> None:
    crew, _ = team
    crew.crew = replace(crew.crew, folder=tmp_path)
    with probing(tmp_path) as probe:
        crew.lost(Task(Job("song.wav", {"vocals": tmp_path / "song (vocals).wav"})), "its machine is gone")
        assert probe is not None
        assert probe.exists()


def test_a_machine_that_sees_another_folder_is_refused(tmp_path: Path) -> None:
    crew, share = Crew("local", {}, Output()), Share(1)
    with probing(tmp_path / "out") as probe:
        assert probe is not None
        assert [path.name for path in (tmp_path / "out").iterdir()] == [probe.name]
        Worker(crew, share, os.getcwd(), probe).check("there")
    with pytest.raises(OutputError, match=r"out: is not the same folder on there.*choose one that they share"):
        Worker(crew, share, os.getcwd(), probe).check("there")
    assert list((tmp_path / "out").iterdir()) == []


def test_stems_at_urls_need_no_folder() -> None:
    with probing(None) as probe:
        assert probe is None


def test_a_machine_with_another_version_is_refused() -> None:
    worker = Worker(Crew("local", {}, Output(), version="0.0.1"), Share(1), os.getcwd(), None)
    with pytest.raises(UsageError, match=r"there has separate .*, not 0\.0\.1: install the same everywhere"):
        worker.check("there")


def test_a_worker_with_another_checkpoint_is_refused(tiny: Path) -> None:
    crew = Crew("local", {"model": str(tiny)}, Output(), checkpoint="0" * 64)
    problem, said = Worker(crew, Share(1), os.getcwd(), None).begin()
    assert f"{tiny}: is another checkpoint on " in str(problem)
    assert said == []
