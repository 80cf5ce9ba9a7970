"""Folders of results: what museval reads of ours and we of museval's, and when earlier results hold."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from separate.errors import InputError, OutputError, OutputExists
from separate.evaluation.results import Results, kept, load, save_summary, save_track, title, write
from separate.metrics.score import Scores, summarise
from tests.evaluation.peers import EvalStore, MethodStore, TrackStore

METRICS = ("SDR", "SIR", "SAR", "ISR")
FILES = [["vocals.wav", 100, 200]]
LARGE = '{"targets": [{"name": "vocals", "frames": [{"metrics": {"SDR": 1%s}}]}]}' % ("0" * 400)
MADE = {"oracle": "mwf", "metric": "v4", "start": 0.0, "end": None, "merge": {}}


def random_scores(seed: int) -> Scores:
    rng = np.random.default_rng(seed)
    frames = rng.normal(5, 4, (3, len(METRICS), 7)).round(5)
    frames[rng.random(frames.shape) < 0.2] = np.nan
    stems = ("vocals", "drums", "accompaniment")
    return {stem: dict(zip(METRICS, values.tolist(), strict=True)) for stem, values in zip(stems, frames, strict=True)}


def save(folder: Path, track: str, scores: Scores) -> None:
    save_track(folder, track, scores, 1.0, {"made": MADE, "files": FILES, "notes": []})


@pytest.fixture
def tracks(tmp_path: Path) -> dict[str, Scores]:
    tracks = {f"Artist - Song {seed}": random_scores(seed) for seed in range(5)}
    for track, scores in tracks.items():
        save(tmp_path / "ours", track, scores)
    save_summary(tmp_path / "ours", Results("ours", tracks, MADE))
    return tracks


def test_museval_reads_ours_and_finds_the_same_medians(tracks: dict[str, Scores], tmp_path: Path) -> None:
    store, method = EvalStore(), MethodStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas has things to say to museval
        store.add_eval_dir(tmp_path / "ours")
        method.add_eval_dir(tmp_path / "ours")
        theirs = store.agg_frames_tracks_scores()
        beside = method.agg_frames_tracks_scores()
    ours = summarise(tracks)
    assert set(store.df["track"]) == set(tracks)
    for stem in ("vocals", "drums", "accompaniment"):
        for metric in METRICS:
            assert ours[stem][metric].median == pytest.approx(theirs[stem, metric], abs=1e-9)
            assert ours[stem][metric].median == pytest.approx(beside["ours", stem, metric], abs=1e-9)


def test_we_read_musevals(tmp_path: Path) -> None:
    scores = random_scores(3)
    store = TrackStore("song", win=1.0, hop=1.0)
    for stem, values in scores.items():
        store.add_target(stem, values)
    (tmp_path / "umx" / "test").mkdir(parents=True)
    store.save(tmp_path / "umx" / "test" / "song.json")
    found = load(tmp_path / "umx")
    assert (found.name, list(found.tracks), found.made) == ("umx", ["song"], {})
    assert summarise(found.tracks)["vocals"] == pytest.approx(summarise({"song": scores})["vocals"])


def test_what_was_saved_is_loaded(tracks: dict[str, Scores], tmp_path: Path) -> None:
    found = load(tmp_path / "ours")
    assert list(found.tracks) == list(tracks)
    assert found.made == MADE
    assert summarise(found.tracks) == summarise(tracks)


def test_the_summary_says_which_tracks_count(tracks: dict[str, Scores], tmp_path: Path) -> None:
    save(tmp_path / "ours", "left over", random_scores(9))
    assert list(load(tmp_path / "ours").tracks) == list(tracks)
    (tmp_path / "ours" / "summary.json").unlink()
    assert set(load(tmp_path / "ours").tracks) == {"left over", *tracks}


def test_a_summary_is_json_for_every_reader(tmp_path: Path) -> None:
    save_summary(tmp_path, Results("x", {"song": {"bass": {"SDR": [math.nan]}, "drums": {"SDR": [2.0]}}}))
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text
    facts = json.loads(text)["scores"]
    assert facts["bass"]["SDR"] == {
        "median": None, "mean": None, "std": None, "quartiles": [None, None], "tracks": 0, "nan": 1,
    }  # fmt: skip
    assert facts["drums"]["SDR"]["quartiles"] == [2.0, 2.0]


def test_subsets_have_the_folders_that_museval_knows(tmp_path: Path) -> None:
    for name in ("test/One", "train/Two", "Three/Four"):
        save(tmp_path, title(name), random_scores(0))
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")}
    assert found == {"test/One.json", "train/Two.json", "test/Three/Four.json"}
    assert set(load(tmp_path).tracks) == {"One", "train/Two", "Three/Four"}


def test_results_hold_as_long_as_options_and_files_do(tracks: dict[str, Scores], tmp_path: Path) -> None:
    folder, track = tmp_path / "ours", next(iter(tracks))
    found = kept(folder, track, MADE, FILES, force=False)
    assert found is not None
    assert summarise({"x": found[0]}) == summarise({"x": tracks[track]})
    assert kept(folder, track, MADE, FILES, force=True) is None
    assert kept(folder, track, MADE, [["vocals.wav", 100, 201]], force=False) is None
    assert kept(folder, "another", MADE, FILES, force=False) is None
    with pytest.raises(OutputExists, match=r"Song 0.json: was made with another end and metric; choose another --out"):
        kept(folder, track, MADE | {"metric": "v3", "end": 4.0}, FILES, force=False)


def test_results_of_others_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "song.json").write_text('{"targets": [], "museval_version": "0.4.1"}')
    with pytest.raises(OutputExists, match="by another program"):
        kept(tmp_path, "song", MADE, FILES, force=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"targets": [{"name": "vo',
        "[]",
        '{"targets": 3}',
        '{"targets": [], "separate": 3}',
        '{"targets": [], "separate": {"made": [1]}}',
        '{"targets": [], "separate": {"notes": 5}}',
        "[" * 100_000,
        LARGE,
    ],
)
def test_a_broken_file_is_scored_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "song.json").write_text(text)
    assert kept(tmp_path, "song", MADE, FILES, force=False) is None


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty: no results in this folder"):
        load(tmp_path / "empty")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "song.json").write_text('{"targets": 3}')
    with pytest.raises(InputError, match=r"song.json: holds no scores in museval's form"):
        load(tmp_path)
    (tmp_path / "test" / "song.json").write_text("x")
    with pytest.raises(InputError, match=r"song.json: cannot be read: it is not JSON"):
        load(tmp_path)
    (tmp_path / "summary.json").write_text('{"tracks": ["gone"]}')
    with pytest.raises(InputError, match=r"gone.json: cannot be read: No such file"):
        load(tmp_path)


@pytest.mark.parametrize(
    "about",
    [
        {"tracks": 5},
        {"tracks": None},
        {"failed": [1]},
        {"made": [1]},
        {"made": 1},
        {"notes": []},
        {"notes": {"song": 5}},
        {"versions": "one"},
    ],
)
def test_a_summary_of_another_form(tmp_path: Path, about: dict[str, Any]) -> None:
    save(tmp_path, "song", random_scores(0))
    (tmp_path / "summary.json").write_text(json.dumps({"tracks": ["song"]} | about))
    with pytest.raises(InputError, match=r"summary.json: is no summary of results; remove it, or score again$"):
        load(tmp_path)


def test_a_summary_says_what_went_wrong_in_text(tmp_path: Path) -> None:
    save(tmp_path, "song", random_scores(0))
    about = {"tracks": ["song"], "failed": {"other": 5}, "versions": {"torch": 2.5}, "command": None}
    (tmp_path / "summary.json").write_text(json.dumps(about))
    found = load(tmp_path)
    assert (found.failed, found.versions, found.command) == ({"other": "5"}, {"torch": "2.5"}, "None")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"tracks": ' * 100_000])
def test_nests_without_end(tmp_path: Path, text: str) -> None:
    for name in ("test/song.json", "summary.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=rf"{name}: cannot be read: it is not JSON"):
            load(tmp_path)


def test_a_figure_that_no_float_holds(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "song.json").write_text(LARGE)
    with pytest.raises(InputError, match=r"song.json: holds no scores in museval's form"):
        load(tmp_path)


def test_a_page_of_songs_whose_names_are_no_text(tmp_path: Path) -> None:
    write(tmp_path / "page.html", "caf\udce9")
    assert (tmp_path / "page.html").read_text("utf-8") == "caf?\n"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(OutputError, match="out"):
        save(tmp_path / "out", "song", random_scores(0))
    assert (tmp_path / "out").read_text() == "I am a file"
