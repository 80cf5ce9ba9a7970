"""The table of architectures: what is built, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from separate.errors import CheckpointError
from separate.models import MODELS, build
from separate.models.d2gru import D2GRUConfig

SMALL: dict[str, Any] = {"n_fft": 64, "hop": 16, "width": 16, "groups": 4}


def test_build_gives_the_architecture_with_its_settings() -> None:
    model = build("d2-gru", SMALL | {"sources": ["voice", "rest"], "gru_dilation": [2, 1], "conv_dilation": [1, 3]})
    assert model.sources == ("voice", "rest")
    assert model.config == D2GRUConfig(**SMALL, sources=("voice", "rest"), gru_dilation=(2, 1), conv_dilation=(1, 3))
    assert (model.sample_rate, model.segment, model.context, model.sums) == (44100, 20.0, 0.5, True)


def test_every_architecture_of_the_table_says_what_the_seam_asks_for() -> None:
    for architecture in MODELS:
        module, model, config = MODELS[architecture].split(":")
        assert module.startswith("separate.models.")
        assert model
        assert config


def test_an_unknown_architecture_is_named_along_with_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"unknown architecture 'd3-gru': this version knows .*d2-gru"):
        build("d3-gru", {})


def test_an_unknown_setting_is_named_along_with_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"d2-gru has no setting 'widht': it knows .*width"):
        build("d2-gru", {"widht": 2048})


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"skip": "some"}, "skip must be one of .*'some'"),
        ({"merge": "product"}, "merge must be one of .*'product'"),
        ({"output": "phase"}, "output must be one of .*'phase'"),
        ({"gru_dilation": [1, 1]}, "gru_dilation has 2 blocks, conv_dilation 3"),
        ({"gru_dilation": [1, 0, 1]}, "gru_dilation must be at least 1 .*0"),
        ({"conv_dilation": [2, -4, 8]}, "conv_dilation must be at least 1 .*-4"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"hop": -1}, "hop = -1"),
        ({"sources": []}, "sources .*got none"),
        ({"bins": 34}, "bins = 34"),
        ({"bins": -1}, "bins = -1"),
        ({"bands": 1}, "bands = 1"),
        ({"bands": -5}, "bands = -5"),
        ({"groups": 5}, "width of 16 .* 5 groups"),
        ({"width": 15, "groups": 3, "merge": "concat"}, "width of 15 .* two directions"),
        ({"layers": ["gru"]}, "layers must be two of .*'gru'"),
        ({"layers": ["gru", "lstm"]}, "layers must be two of .*'lstm'"),
        ({"bands": 8}, "bands need output"),
        ({"segment": 2.0, "context": 1.0}, "context of 1.0 s .* of 2.0 s"),
        ({"wiener": -1}, "wiener .*-1"),
        ({"griffin_lim": -2}, "griffin_lim .*-2"),
        ({"active": 4}, "active .*3 blocks.* 4"),
        ({"active": -2}, "active .*3 blocks.* -2"),
        ({"hop": 20}, "hop = 20"),
        ({"n_fft": 63, "hop": 8}, "n_fft = 63"),
    ],
)
def test_settings_that_make_no_model_are_refused_by_name_and_value(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=f"^d2-gru: .*{says}"):
        build("d2-gru", SMALL | config)
