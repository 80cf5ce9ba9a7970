"""Weights of other programs, and the settings beside them."""

import gzip
import shutil
import struct
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from functools import cache
from io import BytesIO
from pathlib import Path

import torch
from safetensors.torch import save as as_safetensors

from separate.checkpoints.convert import convert
from separate.models import build
from tests.data import make_spleeter
from tests.fuzz.checkpoints import ROFORMER
from tests.fuzz.target import Seed, Seeds

YAML: tuple[bytes, ...] = (
    b"&a ",
    b"*a",
    b"a: &a [*a]",
    b"<<: *a\n",
    b"!!int ",
    b"!!timestamp ",
    b"!!bool x",
    b"!!float",
    b"2001-99-99",
    b"? ",
)
YAML += (
    b"!!python/object/apply:os.system [x]",
    b"!!set",
    b"!!binary x",
    b"0x",
    b"1:99:99",
    b"- - - ",
    b"\t",
    b"---",
    b".nan",
)
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%b]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 9)) for name in range(98, 98 + 12)
)
MERGES = b"a: &a {x: 1}\n" + b"".join(b"k%d: &k%d {<<: [*k%d, *k%d]}\n" % (i, i, i - 1, i - 1) for i in range(2, 40))


def weights() -> dict[str, torch.Tensor]:
    """Make those of an Open-Unmix, tiny ones."""
    net = build("open-unmix", {"sources": ("vocals",), "n_fft": 16, "hop": 4, "bins": 5, "hidden": 4, "layers": 1})
    return {name.removeprefix("nets.vocals."): value for name, value in net.state_dict().items()}


def pickles() -> Seeds:
    """Store weights as torch does, today and before version 1.6, whole files and the pickle in them."""
    nested = {
        "state_dict": OrderedDict(weights()),
        "epoch": 3,
        "names": ["a", ("b", 2.5)],
        "half": torch.ones(3).half(),
    }
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new, old = Path(folder, "new.pth"), Path(folder, "old.pth")
        torch.save(nested, new)
        torch.save(nested, old, _use_new_zipfile_serialization=False)
        with zipfile.ZipFile(new) as archive:
            members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}

        def wrap(body: bytes) -> bytes:
            out = BytesIO()
            with zipfile.ZipFile(out, "w") as archive:
                for name, content in (members | {"data.pkl": body}).items():
                    archive.writestr(f"archive/{name}", content)
            return out.getvalue()

        seeds = {"new.pth": Seed(new.read_bytes()), "inside.pth": Seed(members["data.pkl"], wrap)}
        return seeds | {"old.pth": Seed(old.read_bytes()), "packed.pth": Seed(old.read_bytes(), gzip.compress)}


# Opcodes that make more of little: memo places, long strings, copies, states, calls.
OPCODES: tuple[bytes, ...] = (
    b"r\xff\xff\xff\x0f",
    b"\x8e\xff\xff\xff\xff\0\0\0\0",
    b"\x96\xff\xff\xff\xff\0\0\0\0",
    b"2\x86" * 40,
    b"b",
    b"R",
)
OPCODES += (
    b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8b\xff\xff\xff\x7f",
    b"0",
    b"1",
    b"(",
    b"t",
    b".",
    b"Q",
    b"\x81",
)
OPCODES += (b"ctorch\nSize\n", b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cos\nsystem\n")


def foreign() -> Seeds:
    """Store weights of other programs as safetensors, of which the table is damaged."""
    roformer = build("roformer", ROFORMER)
    states = {
        "vocals": weights(),
        "demucs": dict(build("demucs", {"channels": 2, "depth": 2}).state_dict()),
        "roformer": dict(roformer.state_dict()),
    }
    return {f"{name}.safetensors": table_of(as_safetensors(state)) for name, state in states.items()}


def table_of(content: bytes) -> Seed:
    """Damage the table of a file of safetensors, but not its length."""
    end = 8 + int.from_bytes(content[:8], "little")
    return Seed(content[8:end], lambda body: struct.pack("<Q", len(body)) + body + content[end:])


def read_foreign(path: Path) -> None:
    """Convert a file of weights."""
    convert([path], path.with_name("ours.safetensors"), force=True)


def settings() -> Seeds:
    """Take what lies beside a RoFormer."""
    return {"model.yaml": Seed(SETTINGS), "bomb.yaml": Seed(BOMB), "merges.yaml": Seed(MERGES)}


def read_settings(path: Path) -> None:
    """Convert the RoFormer that lies beside its settings."""
    beside = path.with_name("roformer.safetensors")
    if not beside.exists():
        beside.write_bytes(_roformer())
    convert([beside, path], path.with_name("ours.safetensors"), force=True)


@cache
def _roformer() -> bytes:
    seed = foreign()["roformer.safetensors"]
    return seed.wrap(seed.body)


SETTINGS = b"""audio: {chunk_size: 88200, num_channels: 2, sample_rate: 44100}
model:
  dim: 8
  stereo: true
  stft_n_fft: 64
  stft_hop_length: 16
  skip_connection: False
  freqs_per_bands: !!python/tuple
    - 2
    - 3
training: {instruments: [vocals, other], target_instrument: vocals, lr: 5.0e-05}
"""


def bundles() -> Seeds:
    """Take a TensorFlow checkpoint's table."""
    return {"model.index": Seed((make_spleeter.FOLDER / "model.index").read_bytes())}


def read_bundle(path: Path) -> None:
    """Convert a TensorFlow checkpoint, whose numbers lie beside its table."""
    data = make_spleeter.FOLDER / "model.data-00000-of-00001"
    if not path.with_name(data.name).exists():
        shutil.copy(data, path.with_name(data.name))
    convert([path], path.with_name("ours.safetensors"), force=True)
