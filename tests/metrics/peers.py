"""The field's own programs, called as ours are."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor


def _museval_metrics() -> ModuleType:
    """Load the one file of museval that measures: the package around it asks for an ffmpeg to read data sets with."""
    package = importlib.util.find_spec("museval")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0], "metrics.py")
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_museval = _museval_metrics()


def museval(references: Tensor, estimates: Tensor, window: int, hop: int, filter_length: int) -> Tensor:
    """Measure with museval: SDR, ISR, SIR and SAR, (metric, source, frame)."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        figures = _museval.bss_eval(
            references.double().transpose(1, 2).numpy(),
            estimates.double().transpose(1, 2).numpy(),
            window=window,
            hop=hop,
            compute_permutation=False,
            filters_len=filter_length,
            framewise_filters=False,
            bsseval_sources_version=False,
        )
    return torch.from_numpy(np.stack(figures[:4]))


def mir_eval(references: Tensor, estimates: Tensor) -> Tensor:
    """Measure with mir_eval, whose filters have 512 taps: SDR, SIR and SAR, (metric, source)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It would rather that one used museval.
        from mir_eval.separation import bss_eval_sources

        figures = bss_eval_sources(references.double().numpy(), estimates.double().numpy(), compute_permutation=False)
    return torch.from_numpy(np.stack(figures[:3]))


def worst(ours: Tensor, theirs: Tensor) -> float:
    """Find the largest difference in dB. Not a number where only one of both is, and none where both are.

    Above 100 dB there is only rounding: there both must be.
    """
    assert torch.equal(ours.isnan(), theirs.isnan())
    same = (ours == theirs) | ours.isnan() | ((ours > 100) & (theirs > 100))
    return (ours - theirs).masked_fill(same, 0).abs().max().item()
