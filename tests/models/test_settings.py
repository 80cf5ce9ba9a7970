"""What the settings of many models must keep to. That each model asks for it, tests/models/test_table.py checks."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from separate.models.settings import (
    check_choices,
    check_chunk,
    check_dropout,
    check_frames,
    check_least,
    check_names,
    check_post,
    check_sources,
)

CONFIG = SimpleNamespace(hop=4, width=0.5, edges="silence", rate=float("nan"))


def test_what_fits_passes() -> None:
    check_least(CONFIG, {"hop": 4, "width": 0})
    check_choices(CONFIG, {"edges": ("reflect", "silence")})
    check_sources(["vocals"])
    check_names(["vocals", "drums"])
    check_chunk(2.1, 1.0)
    check_frames(8000, 4, 1, 1.0, 0.0)
    check_dropout(0.0)
    check_post(0, 0)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_least(CONFIG, {"hop": 1, "width": 1}), "width must be at least 1, got 0.5"),
        (lambda: check_least(CONFIG, {"rate": 0}), "rate must be at least 0, got nan"),
        (lambda: check_choices(CONFIG, {"edges": ("a", "b")}), "edges must be one of a, b, got 'silence'"),
        (lambda: check_sources([]), "sources must name at least one, got none"),
        (lambda: check_names([]), "sources must name at least one, and each once, got none"),
        (lambda: check_names(["a", "a"]), "sources must name at least one, and each once, got a, a"),
        (lambda: check_names(["keys"]), "a stem cannot be called 'keys': choose another name"),
        (lambda: check_chunk(2.0, 1.0), "a context of 1.0 s at either end fills a segment of 2.0 s"),
        (lambda: check_chunk(2.0, float("nan")), "a context of nan s at either end fills a segment of 2.0 s"),
        (lambda: check_frames(0, 4, 1, 1.0, 0.0), "sample_rate must be at least 1, got 0"),
        (lambda: check_frames(8000, 5, 1, 1.0, 0.0), "n_fft = 5 must be even, and hop = 1 from 1 to a quarter of it"),
        (lambda: check_frames(8000, 4, 2, 1.0, 0.0), "n_fft = 4 must be even, and hop = 2 from 1 to a quarter of it"),
        (lambda: check_dropout(1.0), "dropout must be a share from 0 to below 1, got 1.0"),
        (lambda: check_post(-1, 0), "wiener and griffin_lim count iterations, got -1 and 0"),
        (lambda: check_post(0, -2), "wiener and griffin_lim count iterations, got 0 and -2"),
    ],
)
def test_what_does_not_fit_is_refused(check: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check()
