"""Where on the Hugging Face hub a model is: hf:user/repo/file@revision, as people write it."""

from __future__ import annotations

from dataclasses import dataclass

from separate.errors import CheckpointError

__all__ = ["KINDS", "USUAL", "Place", "read_place"]

KINDS = (".safetensors", ".yaml")
USUAL = "model.safetensors"  # the name that `separate publish` gives


@dataclass(frozen=True)
class Place:
    """Where on the hub a model is."""

    repo: str  # user/name
    file: str  # "": whatever the repository has
    revision: str | None  # None: the newest


def read_place(source: str) -> Place:
    """Read hf:user/repo/file@revision, of which file and revision may be left out; nothing leads out of a cache."""
    place, at, revision = source.removeprefix("hf:").partition("@")
    user, repo, file = [*place.split("/", 2), "", ""][:3]
    steps = f"{user}/{repo}/{file or USUAL}/{revision if at else 'main'}".split("/")
    wrong = {"", ".", ".."} & set(steps) or not source.isprintable() or len(source) > 500
    if wrong or (file and not file.endswith(KINDS)):
        raise CheckpointError(f"{source}: a model on the hub is written hf:user/repo/file.safetensors@revision")
    return Place(f"{user}/{repo}", file, revision or None)
