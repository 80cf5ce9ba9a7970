"""What is measured against what: as museval does for MUSDB18, and what it does not do."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from separate.datasets import Song
from separate.errors import InputError
from separate.evaluation.scoring import alike, merged, missing, score
from separate.metrics.score import METRICS, Scores
from tests.evaluation.peers import museval
from tests.evaluation.songs import spoilt, stems

RATE = 2000  # frames of a second are longer than the filters
Samples = dict[str, NDArray[np.float32]]


def song(samples: Samples, mixture: Tensor | None = None) -> Song:
    tensors = {name: torch.from_numpy(stem) for name, stem in samples.items()}
    return Song(RATE, tensors, sum(tensors.values(), torch.zeros(1, 1)) if mixture is None else mixture)


def pair(
    seconds: float = 3.0, names: tuple[str, ...] = ("vocals", "drums", "bass", "other")
) -> tuple[Samples, Samples]:
    true = stems(0, names, seconds, RATE, channels=1)  # one channel: BSS Eval is much faster then
    return true, spoilt(true)


def by_museval(true: Samples, estimates: Samples) -> Scores:
    """Let museval score a track as if it were of MUSDB18."""
    rest = sum((true[name] for name in true if name != "vocals"), np.float32(0))
    targets = OrderedDict(
        (name, SimpleNamespace(audio=stem.T)) for name, stem in [*true.items(), ("accompaniment", rest)]
    )
    track = SimpleNamespace(name="song", rate=RATE, subset="test", targets=targets)
    theirs = estimates | {"accompaniment": sum((s for name, s in estimates.items() if name != "vocals"), np.float32(0))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = museval.eval_mus_track(track, {name: stem.T for name, stem in theirs.items()})
    return {
        target["name"]: {name: [float(f["metrics"][name]) for f in target["frames"]] for name in METRICS["v4"]}
        for target in store.scores["targets"]
    }


def assert_equal(ours: Scores, theirs: Scores) -> None:
    assert set(ours) == set(theirs)
    for stem in theirs:
        for metric in theirs[stem]:
            assert ours[stem][metric] == pytest.approx(theirs[stem][metric], abs=0.01, nan_ok=True), (stem, metric)


def test_a_track_is_scored_as_museval_scores_it() -> None:
    true, estimates = pair()
    true["bass"][:, :RATE] = 0  # a frame without a value
    scores, duration, notes = score(song(true), song(estimates), "v4")
    assert duration == 1.0
    assert notes == []
    assert_equal(scores, by_museval(true, estimates))
    assert math.isnan(scores["drums"]["SDR"][0])
    assert not math.isnan(scores["vocals"]["SDR"][0])


def test_a_silent_stem_has_no_value_and_the_others_are_scored_without_it() -> None:
    true, estimates = pair(2.0)
    without = score(song({n: s for n, s in true.items() if n != "bass"}), song(estimates), "v4")[0]
    true["bass"][:] = 0
    scores, _, notes = score(song(true), song(estimates), "v4")
    assert notes == ["bass is silent in the references: it has no value"]
    assert all(math.isnan(value) for metric in scores["bass"].values() for value in metric)
    assert len(scores["bass"]["SDR"]) == 2
    assert_equal({stem: scores[stem] for stem in ("vocals", "drums", "other", "accompaniment")}, without)


def test_an_instrumental_has_no_vocals() -> None:
    true, estimates = pair(2.0)
    true["vocals"][:] = 0
    scores, _, notes = score(song(true), song(estimates), "sdr")
    assert notes == ["vocals is silent in the references: it has no value"]
    assert math.isnan(scores["vocals"]["SDR"][0])
    assert math.isfinite(scores["accompaniment"]["SDR"][0])


def test_an_instrumental_is_all_accompaniment() -> None:
    true, _ = pair(names=("drums", "other"))
    whole = true["drums"] + true["other"]
    halves = {"vocals": 0.1 * whole, "accompaniment": 0.9 * whole}
    scores, _, notes = score(song(true), song(halves), "v4")
    assert scores["accompaniment"]["SDR"] == pytest.approx([20] * 3, abs=0.01)
    assert all(math.isnan(value) for value in scores["vocals"]["SDR"])
    assert "vocals is silent in the references: it has no value" in notes
    more = song(true, mixture=2 * torch.from_numpy(whole))  # there is more in it than its stems, and it may be vocals
    with pytest.raises(InputError, match="nothing can be scored"):
        score(more, song(halves), "v4")


def test_nothing_but_silence_has_no_value() -> None:
    true, estimates = pair(1.0)
    scores, _, notes = score(song({name: 0 * stem for name, stem in true.items()}), song(estimates), "v4")
    assert len(notes) == 5
    assert all(math.isnan(value) for stem in scores.values() for metric in stem.values() for value in metric)


def test_a_silent_estimate_is_said() -> None:
    true, estimates = pair(1.0)
    estimates["drums"][:] = 0
    _, _, notes = score(song(true), song(estimates), "v4")
    assert notes == ["the estimate of drums is silent: what is measured beside it has no value, as in museval"]


@pytest.mark.parametrize(
    ("metric", "said"), [("si-sdr", ["the estimate of drums is silent: it has no value"]), ("sdr", [])]
)
def test_what_a_silent_estimate_leaves_without_a_value(metric: str, said: list[str]) -> None:
    true, estimates = pair(1.0)
    estimates["drums"][:] = 0
    scores, _, notes = score(song(true), song(estimates), metric)
    assert notes == said
    without = {stem for stem, frames in scores.items() if math.isnan(next(iter(frames.values()))[0])}
    assert without == ({"drums"} if said else set())


def test_vocals_are_scored_against_what_has_no_reference_too() -> None:
    true, estimates = pair(2.0)
    some = song({stem: true[stem] for stem in ("vocals", "drums")}, song(true).mixture)
    scores, whole = (score(each, song(estimates), "sdr")[0] for each in (some, song(true)))
    assert scores["accompaniment"]["SDR"] == pytest.approx(whole["accompaniment"]["SDR"], abs=1e-4)
    assert list(scores) == ["vocals", "drums", "accompaniment"]


def test_a_sum_takes_no_other_stems_place() -> None:
    true, _ = pair(1.0)
    with pytest.raises(InputError, match=r"--merge drums\+bass=other: there is a stem other already"):
        merged(song(true), {"other": ("drums", "bass")})


def test_vocals_alone_are_scored_against_the_rest_of_the_mixture() -> None:
    true, estimates = pair(2.0)
    mixture = song(true).mixture
    only = score(song(true), song({"vocals": estimates["vocals"]}), "v4")[0]
    rest = {"vocals": estimates["vocals"], "accompaniment": mixture.numpy() - estimates["vocals"]}
    assert_equal(only, score(song(true), song(rest), "v4")[0])
    assert list(only) == ["vocals", "accompaniment"]


def test_the_accompaniment_of_an_incomplete_set_is_not_the_sum_of_it() -> None:
    true, estimates = pair(2.0)
    some = song({"vocals": estimates["vocals"], "drums": estimates["drums"]})
    complete = song({"vocals": estimates["vocals"], "accompaniment": song(true).mixture.numpy() - estimates["vocals"]})
    scores = score(song(true), some, "sdr")[0]
    assert scores["accompaniment"] == score(song(true), complete, "sdr")[0]["accompaniment"]
    assert missing(song(true), some) == [
        "no estimate of bass: it is not scored",
        "no estimate of other: it is not scored",
    ]


def test_four_stems_are_scored_where_two_are_known() -> None:
    true, estimates = pair(2.0)
    rest = true["drums"] + true["bass"] + true["other"]
    two = song({"vocals": true["vocals"], "accompaniment": rest})
    scores = score(two, song(estimates), "sdr")[0]
    assert list(scores) == ["vocals", "accompaniment"]
    expected = score(song(true), song(estimates), "sdr")[0]["accompaniment"]["SDR"]
    assert scores["accompaniment"]["SDR"] == pytest.approx(expected, abs=1e-4)
    assert missing(two, song(estimates)) == []


def test_stems_that_neither_side_shares() -> None:
    true, estimates = pair(1.0)
    with pytest.raises(InputError, match="nothing can be scored: there are references of drums, estimates of bass"):
        score(song({"drums": true["drums"]}), song({"bass": estimates["bass"]}), "v4")


@pytest.mark.parametrize("metric", METRICS)
def test_every_way_of_measuring(metric: str) -> None:
    true, estimates = pair(2.0, ("vocals", "drums"))
    better = spoilt(true, 0.05)
    scores, duration, _ = score(song(true), song(estimates), metric)
    high = score(song(true), song(better), metric)[0]
    assert duration == (1.0 if metric == "v4" else 2.0)
    for stem in ("vocals", "drums", "accompaniment"):
        assert tuple(scores[stem]) == METRICS[metric]
        first = METRICS[metric][0]
        assert len(scores[stem][first]) == (2 if metric == "v4" else 1)
        # A leak of 0.2 against one of 0.05: 12 dB.
        assert high[stem][first][0] - scores[stem][first][0] == pytest.approx(12.04, abs=0.3)


def test_stems_are_merged() -> None:
    true, estimates = pair(1.0)
    rule = {"other": ("bass", "other")}
    both = merged(song(true), rule)
    assert set(both.stems) == {"vocals", "drums", "other"}
    assert torch.equal(both.stems["other"], torch.from_numpy(true["bass"] + true["other"]))
    one = merged(song({name: stem for name, stem in true.items() if name != "bass"}), rule)
    assert torch.equal(one.stems["other"], torch.from_numpy(true["other"]))
    assert set(merged(song({"vocals": true["vocals"]}), rule).stems) == {"vocals"}
    assert list(score(both, merged(song(estimates), rule), "sdr")[0]) == ["vocals", "drums", "other", "accompaniment"]


def test_lengths_may_differ_by_a_second() -> None:
    true, estimates = pair(3.0)
    shorter = song({name: stem[:, : 2 * RATE + 200] for name, stem in estimates.items()})
    one, other, notes = alike("song", song(true), shorter)
    assert one.mixture.shape == other.mixture.shape == one.stems["bass"].shape == (1, 2 * RATE + 200)
    assert notes == ("song: the estimates are 0.900 s shorter than the others; all were trimmed",)
    one, other, notes = alike("song", shorter, song(true))
    assert one.mixture.shape == other.stems["bass"].shape
    assert notes == ("song: the references are 0.900 s shorter than the others; all were trimmed",)
    shortest = song({name: stem[:, : RATE - 1] for name, stem in estimates.items()})
    with pytest.raises(
        InputError, match=r"song: the estimates are 2.001 s shorter than the others; they cannot be of one"
    ):
        alike("song", song(true), shortest)


def test_rates_and_channels_must_agree() -> None:
    true, estimates = pair(1.0)
    with pytest.raises(InputError, match="song: the references have 2000 Hz, the estimates 8000; they must agree"):
        alike("song", song(true), Song(8000, {}, torch.zeros(1, RATE)))
    with pytest.raises(InputError, match="song: the references have 1 channels, the estimates 2; they must agree"):
        alike("song", song(true), song({name: np.tile(stem, (2, 1)) for name, stem in estimates.items()}))
