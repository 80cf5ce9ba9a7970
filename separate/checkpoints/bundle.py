"""TensorFlow's checkpoints: a sorted table of what is where, and a file of plain numbers. Read without TensorFlow.

    model.index                  blocks of sorted names, each with its kind, shape, offset and size; where the blocks
                                 are stands in a last block, and where that one is at the file's end
    model.data-00000-of-00001    numbers, one array after the other

The table is that of LevelDB, its values are protocol buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from separate.errors import CheckpointError

__all__ = ["read_bundle"]

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes: two places of blocks, filled up to 40, and the magic number
KINDS = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}  # of TensorFlow's many

Fields = dict[int, list[int | bytes]]  # number -> values, of a protocol buffer


def read_bundle(index: Path) -> dict[str, Tensor]:
    """Read all arrays of numbers in the checkpoint whose table is the file `index`: name -> tensor."""
    try:
        entries = dict(table(index.read_bytes()))
        shards = number(fields(entries.pop(b"")), 1)
        names = [index.with_suffix(f".data-{i:05}-of-{shards:05}") for i in range(min(shards, 1000))]
        opened: dict[int, BinaryIO] = {}
        try:
            messages = {name.decode(): fields(entry) for name, entry in entries.items()}
            return {name: array(m, names, opened) for name, m in messages.items() if number(m, 1) in KINDS}
        finally:
            for file in opened.values():
                file.close()
    except OSError as error:
        raise CheckpointError(f"{error.filename or index}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, struct.error) as error:
        raise CheckpointError(f"{index}: not the index of a TensorFlow checkpoint, or damaged: {error}") from error


def array(entry: Fields, names: list[Path], opened: dict[int, BinaryIO]) -> Tensor:
    """Read one array from the file that its entry names."""
    kind, shard, offset, size = (number(entry, key) for key in (1, 3, 4, 5))
    shape = [number(fields(axis), 1) for outer in entry.get(2, []) for axis in fields(outer).get(2, [])]
    if shard not in opened:
        opened[shard] = names[shard].open("rb")
    if offset + size > names[shard].stat().st_size:
        raise ValueError(f"{names[shard].name} is too short")
    opened[shard].seek(offset)
    values = np.frombuffer(bytearray(opened[shard].read(size)), KINDS[kind])
    return torch.from_numpy(values.reshape(shape))


def table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a sorted table: key, value."""
    if len(data) < FOOTER or struct.unpack("<Q", data[-8:]) != (MAGIC,):
        raise ValueError("its last bytes are others")
    _, at = place(data, len(data) - FOOTER)  # of a block about the table, which is empty
    where, _ = place(data, at)
    for _, value in block(data, *where):
        yield from block(data, *place(value, 0)[0])


def block(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a block. A key says only how it goes on from the one before."""
    if start + size + 5 > len(data):
        raise ValueError("it ends too soon")
    if data[start + size]:
        raise ValueError("it is compressed, which TensorFlow's own never are")
    (restarts,) = struct.unpack_from("<I", data, start + size - 4)
    at, end = start, start + size - 4 * (restarts + 1)
    key = b""
    while at < end:
        shared, at = varint(data, at)
        own, at = varint(data, at)
        length, at = varint(data, at)
        key = key[:shared] + data[at : at + own]
        yield key, data[at + own : at + own + length]
        at += own + length


def place(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Read where a block starts and how long it is, and where to go on."""
    start, at = varint(data, at)
    size, at = varint(data, at)
    return (start, size), at


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, the lowest first, and where to go on."""
    value = 0
    for shift in range(0, 70, 7):  # so that 64 bits fit
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 64 bits")


def fields(data: int | bytes) -> Fields:
    """Take a protocol buffer apart."""
    if isinstance(data, int):
        raise ValueError("a number where a message should be")
    found: Fields = {}
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = varint(data, at)
        else:
            size, at = varint(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], at)
            value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def number(message: Fields, key: int) -> int:
    """Look up a number, which is not written down where it is zero."""
    value = message.get(key, [0])[-1]
    if isinstance(value, bytes):
        raise ValueError("a message where a number should be")
    return value
