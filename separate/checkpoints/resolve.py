"""From what a user calls a model to a local file: the only place that knows where checkpoints come from.

d2-gru                      a name of the registry
./my.safetensors            a file
hf:user/repo/file@revision  a file on the Hugging Face hub
"""

from __future__ import annotations

import os
from pathlib import Path

from separate.checkpoints.registry import find
from separate.errors import CheckpointError

__all__ = ["resolve"]


def resolve(model: str | os.PathLike[str]) -> Path:
    """Find the local file of a model."""
    name = os.fspath(model)
    if name.startswith("hf:"):
        return fetch(name)
    path = Path(name)
    if path.suffix == ".safetensors" or os.sep in name or (os.altsep and os.altsep in name):
        if not path.is_file():
            raise CheckpointError(
                f"{name}: no such checkpoint file; `separate models` lists the models that have names"
            )
        return path
    row = find(name)
    bundled = row.path
    if bundled is None:
        return fetch(row.source)
    if not bundled.is_file():
        raise CheckpointError(f"{row.name}: its file {bundled.name} is missing: install the package again")
    return bundled


def fetch(source: str) -> Path:
    """Get `hf:user/repo/file@revision` from the hub, or from its cache when it is there already."""
    place, _, revision = source.removeprefix("hf:").partition("@")
    user, _, rest = place.partition("/")
    repo, _, file = rest.partition("/")
    if not (user and repo and file.endswith(".safetensors")):
        raise CheckpointError(f"{source}: a model on the hub is written hf:user/repo/file.safetensors@revision")

    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(f"{user}/{repo}", file, revision=revision or None))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{source}: not in the cache, and the hub cannot be reached; connect once, or give a file"
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise CheckpointError(f"{source}: the hub says: {str(error).strip().splitlines()[0]}") from error
    except OSError as error:
        raise CheckpointError(f"{source}: cannot be fetched: {error}") from error
