"""What other programs store weights in, as names and tensors.

Most of their files are pickles, which can make a careless reader run anything. Those of today are read by torch itself
with `weights_only=True`, those of old by `legacy`: both make tensors and containers, and refuse all else by its name.
Files of safetensors hold nothing but weights. Settings beside them may be in YAML, of which the plain values are read.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml  # type: ignore[import-untyped]
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from separate.checkpoints.bundle import read_bundle
from separate.checkpoints.legacy import Forbidden, PickledDemucs, read_legacy
from separate.errors import CheckpointError

__all__ = ["Foreign", "Weights", "read"]

LIMIT = 2**34  # bytes of a file once unpacked; the largest known are under 3 GB
YAML_LIMIT = 2**20  # bytes
NESTS = ("state_dict", "model_state_dict", "state")  # where training programs keep the weights in what they save

Weights = dict[str, Tensor]


class PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's careful one, which also reads the tuples of Python as the lists that they are."""


PlainLoader.add_constructor("tag:yaml.org,2002:python/tuple", PlainLoader.construct_yaml_seq)


@dataclass(frozen=True)
class Foreign:
    """What one file holds."""

    path: Path
    weights: Weights
    settings: dict[str, Any]  # of its model, where it says them


def read(path: Path) -> Foreign:
    """Read one file, or the TensorFlow checkpoint in a folder."""
    index = next(iter(sorted(path.glob("*.index"))), path) if path.is_dir() else path
    if path.is_dir() and index == path:
        raise CheckpointError(f"{path}: no TensorFlow checkpoint in this folder; name the files themselves")
    if index.suffix == ".index":
        return Foreign(path, read_bundle(index), {})
    try:
        if path.suffix in (".yaml", ".yml"):
            return Foreign(path, {}, plain_yaml(path))
        check_sum(path)
        if path.suffix == ".safetensors":
            return Foreign(path, checked(path, load_file(path)), {})
        with unpacked(path) as file:
            content = unpickled(path, file)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file, or a damaged one: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise CheckpointError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    settings: dict[str, Any] = {}
    if isinstance(content, tuple) and len(content) == 4 and content[0] is PickledDemucs:
        _, args, settings, content = content
        if args or not isinstance(settings, dict):
            raise CheckpointError(f"{path}: its Demucs was made with arguments that have no names, {args!r}")
    while isinstance(content, Mapping):
        inside = [content[name] for name in NESTS if isinstance(content.get(name), Mapping)]
        if not inside:
            break
        content = inside[0]
    return Foreign(path, checked(path, content), settings)


def plain_yaml(path: Path) -> dict[str, Any]:
    """Read a file of settings; whatever it names that is no plain value is refused."""
    if path.stat().st_size > YAML_LIMIT:
        raise CheckpointError(f"{path}: too large for a file of settings")
    try:
        content = yaml.load(path.read_text("utf-8"), PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        name = re.search(r"constructor for the tag '(?:tag:yaml.org,2002:)?(\S+)'", str(error))
        what = f"it names {name[1]}, which is no setting" if name else "it is damaged"
        raise CheckpointError(f"{path}: not a file of settings in YAML: {what}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds no settings by name, but a {type(content).__name__}")
    return content


def check_sum(path: Path) -> None:
    """Compare a file with the start of its SHA-256, where its name ends with one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    said = re.search(r"-([0-9a-f]{8,64})\.", path.name)
    if said and not found.startswith(said[1]):
        raise CheckpointError(
            f"{path}: its SHA-256 begins with {found[: len(said[1])]}, not with what its name says: "
            "download it again, or rename it if that means something else"
        )


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file that may be packed by gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.open(file) as plain, tempfile.TemporaryFile() as copy:
            while piece := plain.read(2**20):
                copy.write(piece)
                if copy.tell() > LIMIT:
                    raise CheckpointError(f"{path}: it unpacks to more than any weights are")
            copy.seek(0)
            yield copy


def unpickled(path: Path, file: BinaryIO) -> Any:
    """Read what torch saved, and nothing but data."""
    new = file.read(2) == b"PK"
    file.seek(0)
    try:
        if not new:
            return read_legacy(file)
        with torch.serialization.safe_globals([(PickledDemucs, "demucs.model.Demucs")]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # in a pickle that is damaged, or means harm, anything may come up
        name = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, Forbidden) or name:
            raise CheckpointError(
                f"{path}: it names {name[1] if name else error}, which is no weight, "
                "and nothing but weights is read from a pickle"
            ) from error
        raise CheckpointError(f"{path}: not a file of weights that torch saved, or a damaged one") from error


def checked(path: Path, content: Any) -> Weights:
    """Make sure that what a file holds is weights by name."""
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path}: holds no weights by name, but a {type(content).__name__}")
    for name, value in content.items():
        plain = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not isinstance(name, str) or not plain or value.is_quantized:
            raise CheckpointError(f"{path}: {name!r} is no plain weight: such files cannot be converted")
    return {name: value.float() if value.dtype == torch.float64 else value for name, value in content.items()}
