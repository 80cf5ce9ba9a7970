"""A run over a data set: what is kept, what fails, what an interrupt leaves."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from separate.datasets import Track, find_tracks, read_track
from separate.errors import InputError, OutputExists
from separate.evaluation.estimates import System, baseline, folder, model, oracle
from separate.evaluation.results import load
from separate.evaluation.run import Outcome, Plan, evaluate, rounded
from tests.evaluation.songs import RATE, STEMS, data_set, spoilt, stems, write

NAMES = ("One", "Two", "Three")


def plan_for(out: Path, **options: Any) -> Plan:
    return Plan(out, **{"metric": "sdr", **options})  # the fastest


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    return data_set(tmp_path, NAMES, seconds=1.0)


def system(songs: Path) -> tuple[list[Track], System]:
    tracks = find_tracks(songs / "true")
    return tracks, folder(songs / "made", tracks, 0.0, None)


def run(songs: Path, plan: Plan) -> dict[str, Outcome]:
    return {outcome.track: outcome for outcome in evaluate(*system(songs), plan)}


def test_all_tracks_are_scored(songs: Path) -> None:
    outcomes = run(songs, Plan(songs / "out"))
    assert set(outcomes) == set(NAMES)
    for outcome in outcomes.values():
        assert list(outcome.scores) == [*STEMS, "accompaniment"]
        assert outcome.scores["drums"]["SDR"][0] > 5
        assert not outcome.error
        assert not outcome.notes
        assert not outcome.before
    assert set(load(songs / "out").tracks) == set(NAMES)


def test_some_at_once_are_the_same(songs: Path) -> None:
    threads = torch.get_num_threads()
    one = run(songs, plan_for(songs / "one"))
    two = run(songs, plan_for(songs / "two", jobs=3))
    assert {name: outcome.scores for name, outcome in one.items()} == {n: outcome.scores for n, outcome in two.items()}
    assert torch.get_num_threads() == threads


def written(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.rglob("*.json")}


def test_what_was_scored_is_not_scored_again(songs: Path) -> None:
    plan = plan_for(songs / "out")
    first = run(songs, plan)
    before = written(songs / "out")
    again = run(songs, plan)
    assert all(outcome.before for outcome in again.values())
    assert again["One"].scores["bass"]["SDR"] == pytest.approx(first["One"].scores["bass"]["SDR"], abs=1e-5)
    assert written(songs / "out") == before
    (songs / "out" / "test" / "Two.json").unlink()
    write(songs / "made" / "Three", spoilt(stems(2, seconds=1.0, channels=1), 0.1))
    changed = run(songs, plan)
    assert {name: outcome.before for name, outcome in changed.items()} == {"One": True, "Two": False, "Three": False}
    assert changed["Three"].scores["bass"]["SDR"][0] > first["Three"].scores["bass"]["SDR"][0] + 3
    assert not any(outcome.before for outcome in run(songs, replace(plan, force=True)).values())


def test_results_of_other_options_are_not_replaced(songs: Path) -> None:
    run(songs, plan_for(songs / "out"))
    before = written(songs / "out")
    with pytest.raises(OutputExists, match="was made with another end;"):
        run(songs, plan_for(songs / "out", end=0.5))
    assert written(songs / "out") == before
    assert run(songs, plan_for(songs / "out", end=0.5, force=True))["One"].scores


def test_a_track_that_fails_does_not_stop_the_others(songs: Path) -> None:
    (songs / "true" / "One" / "bass.wav").write_bytes(b"no sound")
    for file in (songs / "made" / "Two").iterdir():
        file.unlink()
    outcomes = run(songs, plan_for(songs / "out"))
    assert "bass.wav" in str(outcomes["One"].error)
    assert str(outcomes["Two"].error) == f"Two: no estimates in {songs / 'made'}"
    assert outcomes["Three"].scores
    assert written(songs / "out").keys() == {"Three.json"}


def only_a_mixture(folder: Path) -> None:
    (folder / "vocals.wav").rename(folder / "mixture.wav")
    for stem in set(STEMS) - {"vocals"}:
        (folder / f"{stem}.wav").unlink()


def test_estimates_that_are_a_mixture_alone(songs: Path) -> None:
    only_a_mixture(songs / "made" / "One")
    outcomes = run(songs, plan_for(songs / "out"))
    assert str(outcomes["One"].error) == "One: has no stems; a track is a folder with a file a stem"
    assert written(songs / "out").keys() == {"Two.json", "Three.json"}


@pytest.mark.parametrize("tested", [oracle("irm"), oracle("mwf"), baseline("mixture")])
def test_references_that_are_a_mixture_alone(songs: Path, tested: System) -> None:
    only_a_mixture(songs / "true" / "One")
    outcomes = {
        outcome.track: outcome for outcome in evaluate(find_tracks(songs / "true"), tested, plan_for(songs / "out"))
    }
    assert isinstance(outcomes["One"].error, InputError)
    assert str(outcomes["One"].error).startswith("One: ")
    assert outcomes["Two"].scores


def test_tracks_of_one_title_are_refused_before_any_work(songs: Path) -> None:
    (songs / "true" / "test").mkdir()
    (songs / "true" / "Two").rename(songs / "true" / "test" / "One")
    message = "One and test/One: both are called One in results; rename one, or score one of them alone by --subset"
    with pytest.raises(InputError, match=message):
        list(evaluate(find_tracks(songs / "true", layout="folder"), oracle("irm"), plan_for(songs / "out")))
    assert not (songs / "out").exists()


def test_estimates_of_one_title_are_told_apart(songs: Path) -> None:
    for kind in ("true", "made"):
        (songs / kind / "test").mkdir()
        (songs / kind / "Two").rename(songs / kind / "test" / "One")
    tracks = find_tracks(songs / "true", layout="folder")
    assert [track.name for track in tracks] == ["One", "Three", "test/One"]
    for track in tracks:
        estimates = folder(songs / "made", tracks, 0.0, None)
        (outcome,) = evaluate([track], estimates, plan_for(songs / "out", force=True))
        assert outcome.scores["vocals"]["SDR"][0] > 5, track.name


def test_notes_are_kept(songs: Path) -> None:
    (songs / "made" / "One" / "drums.wav").unlink()
    expected = ("One: no estimate of drums: it is not scored",)
    assert run(songs, plan_for(songs / "out"))["One"].notes == expected
    assert run(songs, plan_for(songs / "out"))["One"].notes == expected


def test_who_stops_listening_leaves_only_what_is_complete(songs: Path) -> None:
    stream = evaluate(*system(songs), plan_for(songs / "out", jobs=2))
    first = next(stream)
    stream.close()
    there = load(songs / "out").tracks
    assert first.track in there
    assert not [path for path in (songs / "out").rglob("*") if path.is_file() and path.suffix != ".json"]


def test_estimates_as_separate_writes_them(songs: Path) -> None:
    true, made = songs / "data" / "test", songs / "separated" / "d2-gru" / "test"
    for name in NAMES:
        true.mkdir(parents=True, exist_ok=True)
        (songs / "true" / name).rename(true / name)
        (made / name).mkdir(parents=True)
        (songs / "made" / name).rename(made / name / "mixture")
    tracks = find_tracks(songs / "data")
    estimates = folder(songs / "separated" / "d2-gru", tracks, 0.0, None)
    outcomes = list(evaluate(tracks, estimates, plan_for(songs / "out")))
    assert {outcome.track for outcome in outcomes if outcome.scores} == set(NAMES)


def test_one_song_and_its_stems(songs: Path) -> None:
    tracks = find_tracks(songs / "true" / "One")
    (outcome,) = evaluate(tracks, folder(songs / "made" / "Two", tracks, 0.0, None), plan_for(songs / "out"))
    assert outcome.scores["vocals"]["SDR"][0] < 0


def test_only_a_part_is_scored(songs: Path) -> None:
    tracks = find_tracks(songs / "true")[:1]
    plan = plan_for(songs / "out", start=0.25, end=0.75)
    (outcome,) = evaluate(tracks, folder(songs / "made", tracks, 0.25, 0.75), plan)
    true, made = (soundfile.read(songs / kind / "One" / "bass.wav")[0][2000:6000] for kind in ("true", "made"))
    expected = 10 * np.log10(np.sum(true**2) / np.sum((made - true) ** 2))
    assert list(outcome.scores["bass"]["SDR"]) == pytest.approx([expected], abs=0.01)


def test_a_model_is_scored_on_what_it_separates(songs: Path, tiny: Path) -> None:
    options = {"segment": None, "overlap": 0.1, "shifts": 1, "wiener": 0, "griffin_lim": None, "precision": "auto"}
    tested = model(str(tiny), device="cpu", batch=None, say=print, **options)
    assert tested.made["precision"] in ("float32", "bfloat16")  # what "auto" is here
    assert len(str(tested.made["sha256"])) == 64
    tracks = find_tracks(songs / "true")[:1]
    plan = plan_for(songs / "out", keep_stems=True)
    (outcome,) = evaluate(tracks, tested, plan)
    assert list(outcome.scores) == [*STEMS, "accompaniment"]
    kept = find_tracks(songs / "out" / "stems")
    (again,) = evaluate(tracks, folder(songs / "out" / "stems", tracks, 0.0, None), plan_for(songs / "again"))
    assert [track.name for track in kept] == ["One"]
    for stem, metrics in outcome.scores.items():
        assert metrics["SDR"] == pytest.approx(again.scores[stem]["SDR"], abs=0.01)
    # Without its stems a track is not complete.
    (before,) = evaluate(tracks, tested, plan)
    assert before.before
    for path in (songs / "out" / "stems" / "One").iterdir():
        path.unlink()
    os.rmdir(songs / "out" / "stems" / "One")
    (anew,) = evaluate(tracks, tested, plan)
    assert not anew.before


@pytest.mark.parametrize("kind", ["irm", "mwf"])
def test_an_oracle_knows_more_than_the_mixture(songs: Path, kind: str) -> None:
    tracks = find_tracks(songs / "true")[:1]
    (ceiling,) = evaluate(tracks, oracle(kind), plan_for(songs / "ceiling"))
    (floor,) = evaluate(tracks, baseline("mixture"), plan_for(songs / "floor"))
    for stem in STEMS:
        assert ceiling.scores[stem]["SDR"][0] > floor.scores[stem]["SDR"][0] + 1


@pytest.mark.parametrize(("kind", "scored"), [("repet", ["vocals", "accompaniment"]), ("hpss", list(STEMS))])
def test_baselines_are_scored_on_what_they_separate(songs: Path, kind: str, scored: list[str]) -> None:
    tracks = find_tracks(songs / "true")[:1]
    (outcome,) = evaluate(tracks, baseline(kind), plan_for(songs / "out"))
    assert [stem for stem in outcome.scores if stem in scored] == scored
    assert not outcome.error


def test_the_mixture_is_shared_out_among_the_stems_there_are(songs: Path) -> None:
    true = stems(5, ("guitar", "piano"), 1.0, RATE, 1)
    write(songs / "duo" / "song", true)
    (outcome,) = evaluate(find_tracks(songs / "duo"), baseline("mixture"), plan_for(songs / "out"))
    halves = (true["guitar"] + true["piano"]) / 2
    expected = 10 * np.log10(np.sum(true["piano"] ** 2) / np.sum((halves - true["piano"]) ** 2))
    assert outcome.scores["piano"]["SDR"][0] == pytest.approx(expected, abs=0.01)


def test_a_file_that_goes_away(songs: Path) -> None:
    tracks, estimates = system(songs)
    (songs / "true" / "Two" / "drums.wav").unlink()
    outcomes = {outcome.track: outcome for outcome in evaluate(tracks, estimates, plan_for(songs / "out"))}
    assert isinstance(outcomes["Two"].error, InputError)
    assert "drums.wav: cannot be read: No such file" in str(outcomes["Two"].error)
    assert outcomes["One"].scores


def test_references_from_lossy_files_are_rounded(tmp_path: Path) -> None:
    stem = 0.1 * np.random.default_rng(0).standard_normal((44100, 1)).astype(np.float32)
    for suffix, grid in ((".wav", False), (".ogg", True)):
        folder = tmp_path / suffix[1:]
        folder.mkdir()
        for name in ("vocals", "other"):
            soundfile.write(folder / f"{name}{suffix}", stem, 44100, subtype="FLOAT" if suffix == ".wav" else "VORBIS")
        (track,) = find_tracks(folder)
        song = rounded(track, read_track(track))
        steps = song.stems["vocals"] * 2**15
        assert bool(torch.allclose(steps, steps.round(), atol=1e-6)) is grid
