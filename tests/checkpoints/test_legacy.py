"""Files that torch saved before version 1.6: what they hold is read, as old as they are, and nothing is called."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from separate.checkpoints.legacy import KINDS, MAGIC, Forbidden, read_legacy

HEAD = pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)


def old(content: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def read(path: Path) -> Any:
    with path.open("rb") as file:
        return read_legacy(file)


def test_tensors_of_every_kind_and_layout(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    content = {kind: torch.arange(5).to(getattr(torch, kind)) for kind in KINDS.values()}
    content |= {"turned": base.mT, "part": base[1:, :, 2], "same": base, "one": torch.tensor(7.5), "none": base[:0]}
    content["parameter"] = torch.nn.Parameter(base.clone())
    found = read(old(content, tmp_path / "x"))
    assert found.keys() == content.keys()
    for name, value in content.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)
    assert found["part"].data_ptr() == found["same"][1, :, 2].data_ptr()  # one storage, as it was


def test_strings_of_python_2(tmp_path: Path) -> None:
    path = old({"gruDec.bias": torch.ones(3)}, tmp_path / "x")
    text = path.read_bytes()
    unicode, plain = b"X\x0b\x00\x00\x00gruDec.bias", b"U\x0bgruDec.bias"
    assert unicode in text
    path.write_bytes(text.replace(unicode, plain))
    assert list(read(path)) == ["gruDec.bias"]


def test_storages_of_a_gpu_and_views_of_them(tmp_path: Path) -> None:
    class View:
        """A tensor as the first versions stored it: a part of a storage that was on a GPU."""

        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor, (self, 1, (2, 2), (2, 1))

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            if isinstance(thing, View) and thing is not self.outer:
                return "storage", torch.cuda.FloatStorage, "5", "cuda:0", 8, ("6", 2, 6)
            return None

        outer: Any = None

    inner, out = View(), io.BytesIO()

    class Outer(View):
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor, (inner, 1, (2, 2), (2, 1))

    out.write(HEAD)
    pickler = Pickler(out, 2)
    pickler.outer = Outer()
    pickler.dump({"a": pickler.outer})
    pickle.dump(["5"], out, 2)
    numbers = torch.arange(8.0)
    path = tmp_path / "x"
    path.write_bytes(out.getvalue() + (8).to_bytes(8, "little") + numbers.numpy().tobytes())
    found: Tensor = read(path)["a"]
    assert found.tolist() == [[3, 4], [5, 6]]  # from the second of those that begin at the third


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
        b"c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
        b"cbuiltins\nexec\n.",
        b"ctorch\nload\n.",
        b"ctorch.storage\n_load_from_bytes\n.",
        b"ccollections\nOrderedDict.fromkeys\n.",
        b"cdemucs.model\nDemucs.forward\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",  # as protocol 4 names it
        b"\x80\x04\x8c\x05torch\x8c\x0cSize.__new__\x93.",
        b"\x82\x01.",  # by a number in a registry
    ],
)
def test_no_other_name_is_looked_up(tmp_path: Path, code: bytes) -> None:
    for content in (code, HEAD + code):
        path = tmp_path / "x"
        path.write_bytes(content if content[:1] == b"\x80" else b"\x80\x02" + content)
        with pytest.raises((Forbidden, ValueError, pickle.UnpicklingError)) as error:
            read(path)
        assert isinstance(error.value, Forbidden) or code.startswith(b"\x82")


def test_more_than_there_is(tmp_path: Path) -> None:
    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 2**50, None) if isinstance(thing, Storage) else None

    out = io.BytesIO()
    out.write(HEAD)
    Pickler(out, 2).dump(Storage())
    path = tmp_path / "x"
    path.write_bytes(out.getvalue())
    with pytest.raises(ValueError, match="not in this file"):
        read(path)
