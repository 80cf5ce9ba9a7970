"""TensorFlow's checkpoints: one that it wrote itself, tables of many blocks, and what is damaged."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from separate.checkpoints.bundle import MAGIC, block, read_bundle, table, varint
from separate.errors import CheckpointError
from tests.data import make_spleeter

MODEL = make_spleeter.FOLDER / "model.index"


def test_a_checkpoint_of_tensorflow_is_read() -> None:
    arrays = read_bundle(MODEL)
    assert arrays["conv2d/kernel"].shape == (5, 5, 2, make_spleeter.WIDTHS[0])
    assert arrays["conv2d_transpose_11/bias"].shape == (1,)
    assert arrays["beta1_power"].shape == ()
    assert float(arrays["beta1_power"]) == np.float32(0.9)
    assert arrays["global_step"].dtype == torch.int64
    assert int(arrays["global_step"]) == 7
    assert "note" not in arrays  # which is a text
    assert len(arrays) == 4 * 24 + 2 * 26 + 3  # norms, convolutions, and what an optimiser leaves


def number(value: int) -> bytes:
    """Write seven bits a byte, the lowest first."""
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + number(high) if high else bytes([low])


def a_block(entries: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """Write a block: each key says how much of the one before it begins with."""
    out, last = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), min(len(key), len(last)))
        out += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        last = key
    return out + struct.pack("<II", 0, 1) + bytes([kind]) + b"csum"


def a_table(entries: list[tuple[bytes, bytes]], each: int) -> bytes:
    """Write a sorted table of blocks of `each` entries."""
    out, places = b"", []
    for i in range(0, len(entries), each):
        written = a_block(entries[i : i + each])
        places.append((entries[i][0], number(len(out)) + number(len(written) - 5)))
        out += written
    index = a_block(places)
    footer = number(0) + number(0) + number(len(out)) + number(len(index) - 5)
    return out + index + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**64 - 1])
def test_numbers_of_seven_bits(value: int) -> None:
    assert varint(b"x" + number(value) + b"more", 1) == (value, 1 + len(number(value)))


@pytest.mark.parametrize("each", [1, 3, 100])
def test_a_table_of_any_number_of_blocks(each: int) -> None:
    entries = [(f"layer_{i:03}/kernel".encode(), bytes([i]) * i) for i in range(100)]
    assert list(table(a_table(entries, each))) == entries


def test_a_block_that_is_compressed_is_refused() -> None:
    data = a_block([(b"a", b"1")], kind=1)
    with pytest.raises(ValueError, match="compressed"):
        list(block(data, 0, len(data) - 5))


def test_a_missing_or_short_file_of_numbers(tmp_path: Path) -> None:
    index = Path(shutil.copy(MODEL, tmp_path))
    with pytest.raises(CheckpointError, match=r"model.data-00000-of-00001: cannot be read: No such file"):
        read_bundle(index)
    whole = MODEL.with_suffix(".data-00000-of-00001").read_bytes()
    index.with_suffix(".data-00000-of-00001").write_bytes(whole[:-900])
    with pytest.raises(CheckpointError, match=r"model.index: .*model.data-00000-of-00001 is too short"):
        read_bundle(index)
    with pytest.raises(CheckpointError, match=r"none.index: cannot be read: No such file"):
        read_bundle(tmp_path / "none.index")


def test_whatever_is_damaged_is_refused_or_read(tmp_path: Path) -> None:
    index = Path(shutil.copy(MODEL, tmp_path))
    shutil.copy(MODEL.with_suffix(".data-00000-of-00001"), tmp_path)
    whole, rng, refused = MODEL.read_bytes(), np.random.default_rng(0), []
    for attempt in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 1 + attempt % 3):
            damaged[at] = rng.integers(256)
        index.write_bytes(damaged[: rng.integers(len(whole))] if attempt % 10 == 0 else damaged)
        try:
            read_bundle(index)
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not [message for message in refused if "\n" in message]
