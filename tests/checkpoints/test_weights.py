"""Checkpoints: what is written is read again, and what is not one is refused by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from separate.checkpoints.weights import fingerprint, load, read_header, save
from separate.errors import CheckpointError
from separate.models import build
from separate.models.layers import weight_norm_
from tests.conftest import TINY

Change = Callable[[dict[str, Any], dict[str, str]], None]


def changed(tiny: Path, to: Path, change: Change) -> Path:
    """Copy the tiny checkpoint with its weights or its header changed."""
    state, head = load_file(tiny), header_of(tiny)
    change(state, head)
    save_file(state, to, head)
    return to


def header_of(path: Path) -> dict[str, str]:
    raw = path.read_bytes()
    metadata: dict[str, str] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    return metadata


def test_header_says_what_was_saved(tiny: Path) -> None:
    header = read_header(tiny)
    assert header.architecture == "d2-gru"
    assert header.sources == ("vocals", "drums", "bass", "other")
    assert header.sample_rate == 44100
    assert header.licence == "MIT"
    assert header.training == {"data": "none"}
    assert header.config["bands"] == 32


def test_round_trip_with_weight_norm_and_half_precision(tmp_path: Path) -> None:
    model = build("d2-gru", TINY)
    weight_norm_(model)
    mix = torch.rand(1, 2, 20_000) - 0.5
    with torch.no_grad():
        expected = model(mix)
        for dtype, tolerance in [(None, 1e-5), (torch.float16, 2e-3)]:
            path = tmp_path / "model.safetensors"
            save(path, model, architecture="d2-gru", licence="MIT", training={}, dtype=dtype)
            loaded = load(path)
            assert not any("parametrizations" in name for name in loaded.state_dict())
            assert not loaded.training
            assert (loaded(mix) - expected).abs().max() < tolerance
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_split_weights_are_folded_at_load(tmp_path: Path, tiny: Path) -> None:
    model = load(tiny).requires_grad_(True)
    weight_norm_(model)
    path = tmp_path / "split.safetensors"
    save_file({name: value.detach().contiguous() for name, value in model.state_dict().items()}, path, header_of(tiny))
    mix = torch.rand(1, 1, 9000)
    with torch.no_grad():
        assert (load(path)(mix) - load(tiny)(mix)).abs().max() < 1e-6


def test_the_fingerprint_of_a_checkpoint_is_its_hash(tiny: Path) -> None:
    assert fingerprint(tiny) == hashlib.sha256(tiny.read_bytes()).hexdigest()


def test_settings_can_be_overridden(tiny: Path) -> None:
    assert load(tiny, wiener=3).config.wiener == 3
    with pytest.raises(CheckpointError, match="d2-gru has no setting 'volume': it knows active, bands"):
        load(tiny, volume=11)


def drop(state: dict[str, Any], head: dict[str, str]) -> None:
    for name in list(state)[:4]:
        del state[name]


def add(state: dict[str, Any], head: dict[str, str]) -> None:
    state["more"] = torch.zeros(1)


def reshape(state: dict[str, Any], head: dict[str, str]) -> None:
    state["input.conv.bias"] = torch.zeros(3)


def round_off(state: dict[str, Any], head: dict[str, str]) -> None:
    state["input.conv.bias"] = state["input.conv.bias"].to(torch.int16)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (round_off, r"input.conv.bias is of torch.int16, not torch.float32"),
        (drop, r"is missing; .* is missing; .* is missing and 1 more"),
        (add, "more is unknown"),
        (reshape, r"input.conv.bias is \(3,\), not \(16,\)"),
        (lambda state, head: head.update(architecture="crystal-ball"), "unknown architecture 'crystal-ball'"),
        (lambda state, head: head.update(config='{"widht": 3}'), "no setting 'widht'"),
        (lambda state, head: head.update(config='{"width": "wide"}'), "d2-gru: "),
        (lambda state, head: head.update(config='{"width": -1}'), "must be at least 1"),
        (lambda state, head: head.update(config="[]"), "header is damaged"),
        (lambda state, head: head.update(config="{"), "header is damaged"),
        (lambda state, head: head.update(sources='["kazoo"]'), "contradicts its config"),
        (lambda state, head: head.update(sample_rate="many"), "header is damaged"),
        (lambda state, head: head.pop("licence"), "lacks 'licence'"),
        (lambda state, head: head.update(format="separate/99"), "its format is 'separate/99'"),
    ],
)
def test_a_checkpoint_that_does_not_fit(tmp_path: Path, tiny: Path, change: Change, said: str) -> None:
    path = changed(tiny, tmp_path / "odd.safetensors", change)
    with pytest.raises(CheckpointError, match=said) as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"PK\x03\x04 a zip, as torch writes them, and some more of it",
        (2**60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (9).to_bytes(8, "little") + b"[1, 2, 3]",
        (100).to_bytes(8, "little") + b"[" * 100,
        (13).to_bytes(8, "little") + b'{"\xff\xfe": "x"}' + b" " * 9,
    ],
)
def test_a_file_that_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a safetensors file|not a checkpoint of separate"):
        load(path)


def test_a_header_of_100_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    with path.open("wb") as file:
        file.write((100_000_000).to_bytes(8, "little"))
        file.truncate(200_000_000)  # on most disks this takes no room
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load(path)


def test_weights_that_lie_where_others_do(tmp_path: Path, tiny: Path) -> None:
    raw = tiny.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8 : 8 + size])
    one, two = [name for name in head if name.endswith("weight_hh_l0")][:2]
    head[two]["data_offsets"] = head[one]["data_offsets"]
    new = json.dumps(head).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(new).to_bytes(8, "little") + new + raw[8 + size :])
    with pytest.raises(CheckpointError, match=r"its weights cannot be read: .*offset"):
        load(path)


def test_a_truncated_checkpoint(tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(tiny.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="its weights cannot be read"):
        load(path)


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_header(tmp_path / "none.safetensors")
