"""What other programs store weights in, as names and tensors.

Most of their files are pickles, which can make a careless reader run anything. `legacy` makes tensors and containers of
them, and refuses all else by its name. Files of safetensors hold nothing but weights. Settings beside them may be in
YAML, of which the plain values are read.
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
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from separate.checkpoints.bundle import read_bundle
from separate.checkpoints.legacy import Forbidden, PickledDemucs, read_legacy, read_zipped
from separate.checkpoints.plain import LARGEST, plain_yaml
from separate.errors import CheckpointError

__all__ = ["Foreign", "Weights", "read"]

LIMIT = 2**34  # bytes of a file once unpacked; the largest known are under 3 GB
YAML_LIMIT = 2**20  # bytes
NESTS = ("state_dict", "model_state_dict", "state")  # where training programs keep the weights in what they save

Weights = dict[str, Tensor]


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
            return Foreign(path, {}, settings_in(path))
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
            raise CheckpointError(f"{path}: its Demucs was made with arguments that have no names")
        if odd := [name for name, value in settings.items() if not is_setting(value)]:
            raise CheckpointError(f"{path}: {odd[0]!r} is no setting of a Demucs")
    while isinstance(content, Mapping):
        inside = [content[name] for name in NESTS if isinstance(content.get(name), Mapping)]
        if not inside:
            break
        content = inside[0]
    return Foreign(path, checked(path, content), settings)


def is_setting(value: Any) -> bool:
    """Tell whether a value is a number, a word, or a list of these."""
    if isinstance(value, list | tuple):
        return all(item is not None and not isinstance(item, list | tuple) and is_setting(item) for item in value)
    if isinstance(value, int):
        return -LARGEST < value < LARGEST
    return value is None or isinstance(value, str | float)


def settings_in(path: Path) -> dict[str, Any]:
    """Read a file of settings; whatever it names that is no plain value is refused."""
    if path.stat().st_size > YAML_LIMIT:
        raise CheckpointError(f"{path}: too large for a file of settings")
    try:
        content = plain_yaml(path.read_text("utf-8"))
    except ValueError as error:
        name = re.search(r"constructor for the tag '(?:tag:yaml.org,2002:)?(\S+)'", str(error))
        what = f"it names {name[1]}, which is no setting" if name else f"it is damaged: {error}"
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
        return read_zipped(file) if new else read_legacy(file)
    except OSError:
        raise
    except Forbidden as error:
        raise CheckpointError(
            f"{path}: it names {error}, which is no weight, and nothing but weights is read from a pickle"
        ) from error
    except Exception as error:  # in a pickle that is damaged, or means harm, anything may come up
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
