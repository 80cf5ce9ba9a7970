"""What torch.save wrote: a pickle that says which tensors there are, and their numbers beside it.

    before version 1.6   magic number, version, machine | what was saved | the keys of its storages | all storages
    since then           a zip of data.pkl, what was saved, and of data/KEY for every storage; nothing is compressed

A pickle is a program. This reader's can call what is in KNOWN, which makes tensors and dictionaries, and nothing else:
whatever other name a pickle brings along is refused. torch's own careful reader does not do. It refuses Demucs version
1, whose files say which class they are of, and the strings of Python 2; and some damaged files keep it busy for hours.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

__all__ = ["Forbidden", "PickledDemucs", "read_legacy", "read_zipped"]

MAGIC = 0x1950A86A20F9469CFC6C


class Forbidden(ValueError):
    """A pickle wants something called that is none of its business."""


class PickledDemucs:
    """Stands for the class that files of Demucs version 1 name. Nobody makes one."""


def table(items: Iterable[Any] = ()) -> OrderedDict[Any, Any]:
    """Make a dictionary; its keys are checked before it would hash them."""
    pairs = list(items.items() if isinstance(items, dict) else items)
    check_keys([key for key, _ in pairs])
    return OrderedDict(pairs)


def check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys that nobody has: a tuple of a tuple of a tuple, each twice, is hashed for hours."""
    if not all(isinstance(key, str | bytes | int | float | None) for key in keys):
        raise ValueError("a dictionary whose keys are no names and no numbers")


def tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """Make a tensor of a storage, which is a flat one here."""
    return storage.as_strided(size, stride, storage.storage_offset() + offset)


def parameter(data: Tensor, *_: Any) -> Tensor:
    """Make a parameter, which is its tensor here."""
    return data


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): table,
    ("collections", "Counter"): table,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor"): tensor,
    ("torch._utils", "_rebuild_tensor_v2"): tensor,
    ("torch._utils", "_rebuild_parameter"): parameter,
    ("demucs.model", "Demucs"): PickledDemucs,
}
KINDS = {"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Bool": "bool"}
KINDS |= {"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"}
for place in ("torch", "torch.cuda"):
    KNOWN |= {(place, f"{kind}Storage"): getattr(torch, dtype) for kind, dtype in KINDS.items()}
KNOWN |= {("torch", dtype): getattr(torch, dtype) for dtype in KINDS.values()}


class Unpickler(pickle._Unpickler):
    """Python's own, but it knows only what is in KNOWN.

    It is the one written in Python: the one in C takes 64 GB for a pickle of ten bytes that has much to remember.
    """

    def __init__(self, file: BinaryIO, limit: int) -> None:
        super().__init__(file, encoding="latin-1")  # of strings that Python 2 wrote
        self.left = limit  # bytes of numbers that there can still be
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
        key, _, count, *part = rest
        check_keys([key])
        if key not in self.storages:
            self.left -= count * what.itemsize
            if kind != "storage" or self.left < 0:
                raise ValueError("a storage that is not in this file")
            self.storages[key] = torch.zeros(count, dtype=what)
        if not part or part[0] is None:
            return self.storages[key]
        _, start, size = part[0]
        return self.storages[key][start : start + size]

    def load_build(self) -> None:
        """Leave out the attributes that torch's dictionaries have; nothing else has any."""
        self.stack.pop()  # type: ignore[attr-defined]
        if type(self.stack[-1]) is not OrderedDict:  # type: ignore[attr-defined]
            raise Forbidden("the state of something that has none")

    def load_dict(self) -> None:
        """Make a dictionary of what is on the stack: key, value, key, value."""
        check_keys(self.stack[::2])  # type: ignore[attr-defined]
        super().load_dict()  # type: ignore[misc]

    def load_setitem(self) -> None:
        """Give a dictionary a value more."""
        check_keys(self.stack[-2:-1])  # type: ignore[attr-defined]
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        """Give a dictionary all that is on the stack."""
        check_keys(self.stack[::2])  # type: ignore[attr-defined]
        super().load_setitems()  # type: ignore[misc]

    dispatch: ClassVar[dict[int, Any]] = pickle._Unpickler.dispatch | {
        pickle.BUILD[0]: load_build,
        pickle.DICT[0]: load_dict,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }
    del dispatch[pickle.BYTEARRAY8[0]]  # takes whatever memory it asks for, before there is anything to put there


def read_legacy(file: BinaryIO) -> Any:
    """Read what was saved before version 1.6. What is wrong with a file may come up as any error."""
    limit = os.fstat(file.fileno()).st_size
    if Unpickler(file, limit).load() != MAGIC:
        raise ValueError("its magic number is another")
    for _ in ("version", "machine"):
        Unpickler(file, limit).load()
    reader = Unpickler(file, limit)
    content = reader.load()
    for key in Unpickler(file, limit).load():
        check_keys([key])
        if int.from_bytes(file.read(8), "little") != len(reader.storages[key]):
            raise ValueError("a storage of another length")
        fill(reader.storages[key], file)
    return content


def read_zipped(file: BinaryIO) -> Any:
    """Read what was saved since version 1.6. What is wrong with a file may come up as any error."""
    with zipfile.ZipFile(file) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which torch's own never are")
        if "byteorder" in names and archive.read(names["byteorder"]) != b"little":
            raise ValueError("its numbers begin with their largest byte")
        with archive.open(names["data.pkl"]) as pickled:
            reader = Unpickler(pickled, os.fstat(file.fileno()).st_size)  # type: ignore[arg-type]
            content = reader.load()
        for key, storage in reader.storages.items():
            with archive.open(names[f"data/{key}"]) as numbers:
                fill(storage, numbers)
    return content


def fill(storage: Tensor, file: Any) -> None:
    """Read the numbers of a storage."""
    raw = memoryview(storage.view(torch.uint8).numpy())  # type: ignore[arg-type]
    while raw:
        count = file.readinto(raw)
        if not count:
            raise ValueError("it ends too soon")
        raw = raw[count:]
