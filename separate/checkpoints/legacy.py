"""What torch saved before version 1.6: pickles one after the other, then the numbers.

    magic number, version, facts about the machine | what was saved | the keys of its storages | storage after storage

A pickle is a program. This reader's can call what is in KNOWN, which makes tensors and dictionaries, and nothing else:
whatever other name a pickle brings along is refused. torch's own careful reader does not do, as it refuses Demucs
version 1, whose files say which class they are of, and the strings of Python 2.
"""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

import torch
from torch import Tensor

__all__ = ["Forbidden", "PickledDemucs", "read_legacy"]

MAGIC = 0x1950A86A20F9469CFC6C


class Forbidden(ValueError):
    """A pickle wants something called that is none of its business."""


class PickledDemucs:
    """Stands for the class that files of Demucs version 1 name. Nobody makes one."""


def tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """Make a tensor of a storage, which is a flat one here."""
    return storage.as_strided(size, stride, storage.storage_offset() + offset)


def parameter(data: Tensor, *_: Any) -> Tensor:
    """Make a parameter, which is its tensor here."""
    return data


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): tensor,
    ("torch._utils", "_rebuild_tensor_v2"): tensor,
    ("torch._utils", "_rebuild_parameter"): parameter,
    ("demucs.model", "Demucs"): PickledDemucs,
}
KINDS = {"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Bool": "bool"}
KINDS |= {"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"}
for place in ("torch", "torch.cuda"):
    KNOWN |= {(place, f"{kind}Storage"): getattr(torch, dtype) for kind, dtype in KINDS.items()}


class Unpickler(pickle.Unpickler):
    """Python's own, but it knows only what is in KNOWN."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        super().__init__(file, encoding="latin-1")  # of strings that Python 2 wrote
        self.limit = limit  # bytes that there are
        self.storages: dict[Any, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Look up a name."""
        if (module, name) not in KNOWN:
            raise Forbidden(f"{module}.{name}")
        return KNOWN[module, name]

    def persistent_load(self, said: Any) -> Any:
        """Find what is not in the pickle: a storage, still empty, or a class that comes with its source."""
        kind, what, *rest = said
        if kind == "module":
            return what
        key, _, count, part = rest
        if key not in self.storages:
            if kind != "storage" or count * what.itemsize > self.limit:
                raise ValueError(f"a {kind} of {count}, which is not in this file")
            self.storages[key] = torch.zeros(count, dtype=what)
        if part is None:
            return self.storages[key]
        _, start, size = part
        return self.storages[key][start : start + size]


def read_legacy(file: BinaryIO) -> Any:
    """Read what was saved. What is wrong with a file may come up as any error."""
    limit = os.fstat(file.fileno()).st_size
    if Unpickler(file, limit).load() != MAGIC:
        raise ValueError("its magic number is another")
    for _ in ("version", "machine"):
        Unpickler(file, limit).load()
    reader = Unpickler(file, limit)
    content = reader.load()
    for key in Unpickler(file, limit).load():
        storage = reader.storages[key]
        raw = storage.view(torch.uint8).numpy()
        if int.from_bytes(file.read(8), "little") != len(storage) or file.readinto(raw) != len(raw):  # type: ignore[attr-defined]
            raise ValueError("it ends too soon")
    return content
