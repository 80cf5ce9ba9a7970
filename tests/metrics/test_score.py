"""From frames to medians, in museval's form and by museval's arithmetic."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from separate.metrics.score import Scores, decode, encode, in_order, median, summarise, table
from tests.evaluation.peers import TrackStore

NAN = math.nan


def scores_of(*values: float, metrics: tuple[str, ...] = ("SDR", "SIR", "SAR", "ISR")) -> dict[str, list[float]]:
    return {metric: [value + number for value in values] for number, metric in enumerate(metrics)}


def test_a_track_is_written_as_museval_writes_it() -> None:
    scores: Scores = {
        "vocals": {"SDR": [6.1234567, NAN], "SIR": [12.0, NAN], "SAR": [-0.000001, math.inf], "ISR": [1e-9, 3.000005]},
        "accompaniment": scores_of(1.5, 2.5, -3.25),
    }
    theirs = TrackStore("song", win=1.0, hop=1.0)
    for stem, values in scores.items():
        theirs.add_target(stem, values)
    theirs.validate()
    ours = json.loads(encode(scores, museval_version="x"))
    expected = json.loads(theirs.json)
    assert json.dumps(ours["targets"], sort_keys=True) == json.dumps(expected["targets"], sort_keys=True)
    assert decode(expected).keys() == scores.keys()


def test_what_is_written_is_read() -> None:
    scores = {"vocals": scores_of(1.0, 2.5), "drums": scores_of(NAN, NAN)}
    read = decode(json.loads(encode(scores, 2.0, separate={"made": {}})))
    assert read["vocals"] == scores["vocals"]
    assert all(math.isnan(value) for value in read["drums"]["ISR"])


@pytest.mark.parametrize(
    "document", [{}, {"targets": [{}]}, {"targets": [{"name": "x", "frames": [{"metrics": {"SDR": "loud"}}]}]}]
)
def test_what_is_no_track_is_refused(document: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        decode(document)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(NAN), min_size=1, max_size=12))
def test_medians_are_those_of_numpy(values: list[float]) -> None:
    finite = np.array([value for value in values if math.isfinite(value)])
    assert median(values) == pytest.approx(np.median(finite) if len(finite) else NAN, nan_ok=True)
    facts = summarise({str(n): {"vocals": {"SDR": [value]}} for n, value in enumerate(values)})["vocals"]["SDR"]
    assert (facts.tracks, facts.nan) == (len(finite), len(values) - len(finite))
    if len(finite):
        assert (facts.median, facts.mean) == pytest.approx((np.median(finite), finite.mean()), abs=1e-6)
        assert facts.quartiles == pytest.approx(np.quantile(finite, [0.25, 0.75]), abs=1e-6)
    if len(finite) > 1:
        assert facts.std == pytest.approx(finite.std(ddof=1), abs=1e-6)


def test_infinite_frames_do_not_count() -> None:
    assert median([math.inf, 1.0, -math.inf]) == 1.0


def test_tracks_that_lack_a_stem_are_counted() -> None:
    tracks: dict[str, Scores] = {
        "one": {"vocals": scores_of(4.0, 6.0), "bass": scores_of(1.0)},
        "two": {"vocals": scores_of(NAN, 7.0)},
        "three": {"vocals": scores_of(1.0), "bass": scores_of(NAN)},
    }
    facts = summarise(tracks)
    assert list(facts) == ["vocals", "bass"]
    assert (facts["vocals"]["SDR"].median, facts["vocals"]["SDR"].nan) == (5.0, 0)
    assert (facts["bass"]["SDR"].median, facts["bass"]["SDR"].tracks, facts["bass"]["SDR"].nan) == (1.0, 1, 2)


def test_stems_come_in_the_order_of_papers() -> None:
    assert in_order(["zither", "accompaniment", "other", "vocals", "guitar", "drums"]) == [
        *("vocals", "drums", "other", "accompaniment"),
        *("guitar", "zither"),
    ]


def test_a_table_is_laid_out_as_in_papers() -> None:
    one: dict[str, Scores] = {"song": {"vocals": scores_of(6.0), "drums": scores_of(NAN)}}
    two: dict[str, Scores] = {"song": {"vocals": scores_of(7.0), "accompaniment": scores_of(12.345)}}
    heads, rows = table({"one": one, "two": two})
    assert heads == ["", "", "vocals", "drums", "accomp."]
    assert rows[:3] == [
        ["SDR", "one", "6.00", "–", ""],
        ["", "two", "7.00", "", "12.35"],
        ["SIR", "one", "7.00", "–", ""],
    ]
    assert [row[0] for row in rows] == ["SDR", "", "SIR", "", "SAR", "", "ISR", ""]


def test_systems_that_were_measured_in_other_ways_have_rows_of_their_own() -> None:
    _, rows = table({"a": {"s": {"vocals": {"SI-SDR": [3.0]}}}, "b": {"s": {"vocals": {"SDR": [4.0], "SIR": [5.0]}}}})
    assert rows == [["SDR", "b", "4.00"], ["SIR", "b", "5.00"], ["SI-SDR", "a", "3.00"]]
