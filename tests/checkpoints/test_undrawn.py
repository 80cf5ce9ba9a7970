"""Models without weights: they take no memory, and what is loaded into them is all there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from separate.checkpoints.undrawn import Undrawn
from separate.checkpoints.weights import load, save
from separate.models import build


def test_layers_have_no_weights_and_tables_have_values() -> None:
    with Undrawn():
        model = build("d2-gru", {"bands": 64, "output": "mask"})
    assert all(parameter.is_meta for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e8
    tables = dict(model.named_buffers())
    assert tables
    assert not any(table.is_meta for table in tables.values())
    assert not nn.Linear(2, 2).weight.is_meta


def test_no_model_needs_the_compiler_to_be_loaded() -> None:
    program = """
import sys
from separate.checkpoints.undrawn import Undrawn
from separate.models import MODELS, build
for name in MODELS:
    with Undrawn():
        build(name, {"models": [{"architecture": "demucs"}]} if name == "bag" else {})
    assert "torch._dynamo" not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_is_loaded_is_mapped_where_its_precision_is_the_models(tmp_path: Path) -> None:
    model = build("d2-gru", {"n_fft": 64, "hop": 16, "width": 32, "groups": 4})
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save(full, model, architecture="d2-gru", licence="MIT", training={})
    save(half, model, architecture="d2-gru", licence="MIT", training={}, dtype=torch.float16)
    for path in (full, half):
        found = load(path)
        assert not any(value.is_meta for value in found.state_dict().values())
        for name, value in model.state_dict().items():
            wanted = value if path == full else value.half().float()
            assert found.state_dict()[name].dtype == value.dtype
            assert torch.equal(found.state_dict()[name], wanted)


def test_changing_a_loaded_model_leaves_its_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = build("d2-gru", {"n_fft": 64, "hop": 16, "width": 32, "groups": 4})
    save(path, model, architecture="d2-gru", licence="MIT", training={})
    before = path.read_bytes()
    for parameter in load(path).parameters():
        parameter.add_(1)
    assert path.read_bytes() == before
    assert torch.equal(load(path).output.conv.weight, model.output.conv.weight)
