"""Checkpoints: what they say of themselves, their tables of weights, bags of them."""

import json
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import save as as_safetensors

from separate.checkpoints.weights import load, save
from separate.models import build
from tests.fuzz.target import Seed, Seeds
from tests.models.test_table import TINY

ROFORMER = {"n_fft": 64, "hop": 16, "width": 8, "depth": 1, "heads": 1, "head_width": 4, "bands": (2, 3, 28)}
METADATA: tuple[bytes, ...] = (b'"__metadata__":', b'"config"', b'\\"', b"Infinity", b"-Infinity", b"1e-320")


def file_of(folder: Path, name: str, architecture: str, config: dict[str, Any]) -> bytes:
    """Write a checkpoint of random weights."""
    save(folder / name, build(architecture, config), architecture=architecture, licence="MIT", training={})
    return (folder / name).read_bytes()


def with_metadata(content: bytes, metadata: dict[str, str] | None = None) -> Seed:
    """Damage what a checkpoint says of itself, while its table of weights stays whole."""
    end = 8 + int.from_bytes(content[:8], "little")
    table = json.loads(content[8:end])
    said = metadata or table.pop("__metadata__")
    table.pop("__metadata__", None)
    rest = json.dumps(table).encode()[1:]

    def wrap(body: bytes) -> bytes:
        header = b'{"__metadata__":' + body + b"," + rest
        header += b" " * (-len(header) % 8)
        return struct.pack("<Q", len(header)) + header + content[end:]

    return Seed(json.dumps(said).encode(), wrap)


@cache
def published() -> Seeds:
    """Make models as the package demucs publishes them."""
    kwargs = {"channels": 8, "bottom_channels": 16, "t_heads": 2, "t_layers": 2, "dconv_mode": 3, "other": 1}
    said = {
        "htdemucs": (
            "demucs.htdemucs.HTDemucs",
            kwargs | {"segment": {"_type": "fraction", "numerator": 1, "denominator": 1}},
        ),
        "hdemucs": ("demucs.hdemucs.HDemucs", {"channels": 8, "depth": 5, "nfft": 1024, "hybrid_old": False}),
        "wdemucs": ("demucs.demucs.Demucs", {"channels": 4, "depth": 5}),
    }
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture, (klass, settings) in said.items():
            metadata = {"klass": klass, "args": json.dumps([["drums", "bass", "other", "vocals"]])}
            content = file_of(Path(folder), "x.safetensors", architecture, TINY[architecture])
            made[architecture] = with_metadata(content, metadata | {"kwargs": json.dumps(settings)})
    return made


def headers() -> Seeds:
    """Make a checkpoint of every architecture, and the published ones."""
    with tempfile.TemporaryDirectory() as folder:
        made = {
            f"{name}.safetensors": with_metadata(file_of(Path(folder), "x.safetensors", name, config))
            for name, config in TINY.items()
        }
    return made | {f"published-{name}.safetensors": seed for name, seed in published().items()}


def files_of_weights() -> Seeds:
    """Make whole files, whose table is damaged too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = {"n_fft": 64, "hop": 16, "width": 4, "groups": 2, "gru_dilation": (1,), "conv_dilation": (2,)}
        seeds = {"d2-gru.safetensors": Seed(file_of(folder, "x.safetensors", "d2-gru", small))}
        shapes = build("roformer", ROFORMER)
        seeds["roformer.safetensors"] = Seed(as_safetensors(dict(shapes.state_dict())))
    return seeds


BAG = b"""models: ['htdemucs', 'hdemucs', 'wdemucs']
weights: [[1., 0., 1., 1.], [1., 1., 0., 0.5], [0., 0., 1., 0.]]
segment: 0.5
"""


def bags() -> Seeds:
    """Make a bag of three."""
    return {"bag.yaml": Seed(BAG)}


def read_bag(path: Path) -> None:
    """Read a bag, whose models lie beside it."""
    for name, seed in published().items():
        part = path.with_name(f"{name}.safetensors")
        if not part.exists():
            part.write_bytes(seed.wrap(seed.body))
    load(path)
