"""From what a user calls a model to a verified local file.

d2-gru                          a name of the registry: one that comes with the package, or one that the hub has
./my.safetensors                a file, of weights or a bag (.yaml)
hf:user/repo/file@revision      a file on the Hugging Face hub; `file` may be left out where there is one to choose

A bag is a YAML file that names others, each a model; they lie beside it, and are fetched with it, of one commit.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from separate.checkpoints import hub
from separate.checkpoints.lock import digest
from separate.checkpoints.place import KINDS, USUAL, Place, read_place
from separate.checkpoints.published import bag_of
from separate.checkpoints.registry import find, registry
from separate.errors import CheckpointError

__all__ = ["intact", "licence_of", "pieces", "place_of", "pull", "resolve", "where"]


def resolve(model: str | os.PathLike[str], *, quiet: bool = False, update: bool = False) -> Path:
    """Find the local file of a model, fetching it if need be; `update` asks the hub for a newer one."""
    name = os.fspath(model)
    place = place_of(name)
    if place is None:
        return intact(name, _local(name))
    try:
        return intact(name, pull(place, quiet=quiet, update=update)[0])
    except hub.Unreachable as error:
        here = ", ".join(row.name for row in registry().values() if where(row.name))
        remedy = f"`separate models pull {name}` where there is a network, or copy the cache of a machine that has it"
        raise CheckpointError(f"{error}; {remedy}; here already: {here}") from error


def place_of(name: str) -> Place | None:
    """Say where on the hub a model is; None for one that is local."""
    source = name if name.startswith("hf:") or _is_path(name) else find(name).source
    return read_place(source) if source.startswith("hf:") else None


def where(name: str) -> Path | None:
    """Find the file of a model without the network, intact or not; None if some of it is missing."""
    place = place_of(name)
    if place is None:
        row = None if _is_path(name) else find(name)
        return None if row and row.path and not row.path.is_file() else _local(name)
    try:
        found = pieces(place)
    except CheckpointError:  # a bag that is damaged
        return None
    return found[0] if found and all(path.is_file() for path in found) else None


def pieces(place: Place) -> list[Path]:
    """List the files of a model in the cache, the one to load first; those that a bag names may be missing."""
    file = place.file or _choice(hub.cached_files(place.repo, place.revision))
    path = hub.cached(place.repo, file, place.revision) if file else None
    return [path, *(path.parent / name for name in members(path))] if path else []


def pull(place: Place, *, quiet: bool = False, update: bool = False) -> list[Path]:
    """Fetch all files of a model, the one to load first."""
    file = place.file or _chosen(place)
    path = hub.fetch(place.repo, file, place.revision, quiet=quiet, update=update)
    others = [str(PurePosixPath(file).parent / name) for name in members(path)]
    return [path, *(hub.fetch(place.repo, other, hub.commit_of(place.repo, path), quiet=quiet) for other in others)]


def licence_of(name: str, said: str) -> str:
    """Say what a model may be used for: as its file has it, or if that does not say, as the registry has of the place.

    Files of other programs do not say. What a repository holds has one licence.
    """
    rows = registry()
    row, place = rows.get(name), place_of(name)
    if row is None and place is not None:
        row = next((row for row in rows.values() if row.source.startswith(f"hf:{place.repo}/")), None)
    return row.licence if row and said == "unknown" else said


def members(path: Path) -> list[str]:
    """Name the files that a bag consists of; other files are no bags."""
    names = bag_of(path)["models"] if path.suffix == ".yaml" else []
    return [f"{name}.safetensors" for name in dict.fromkeys(names)]


def _chosen(place: Place) -> str:
    """Choose the file of a place that names none: the hub knows what there is, the cache may have some of it only."""
    here = hub.cached_files(place.repo, place.revision)
    if USUAL in here:
        return USUAL
    try:
        names = hub.files_of(place.repo, place.revision)
    except hub.Unreachable:
        names = here
        if not _choice(names):
            raise
    if file := _choice(names):
        return file
    there = ", ".join(name for name in names if name.endswith(KINDS)) or "none"
    raise CheckpointError(f"hf:{place.repo}: say which file is meant, hf:{place.repo}/FILE; of models it has {there}")


def _choice(names: list[str]) -> str:
    """Choose the file to load: the only bag, else the only weights, or those of the usual name."""
    bags = [name for name in names if name.endswith(".yaml") and not PurePosixPath(name).name.startswith("config")]
    weights = [name for name in names if name.endswith(".safetensors")]
    if USUAL in weights:
        return USUAL
    return next((group[0] for group in (bags, weights) if len(group) == 1), "")


def _is_path(name: str) -> bool:
    return Path(name).suffix in KINDS or os.sep in name or bool(os.altsep and os.altsep in name)


def intact(name: str, path: Path) -> Path:
    """Check a file of the registry: a few wrong bytes would be heard, and nothing else would tell."""
    row = None if _is_path(name) else find(name)
    if row and row.sha256 and digest(path) != row.sha256:
        ours = row.source.startswith("bundled:")
        remedy = ": install the package again" if ours else ", or the `sha256` of its row is that of another file"
        raise CheckpointError(f"{name}: its file {path} is damaged{remedy}")
    return path


def _local(name: str) -> Path:
    """Find a file by its path, or that of a row whose file is on this machine."""
    if _is_path(name):
        if not Path(name).is_file():
            raise CheckpointError(
                f"{name}: no such checkpoint file; `separate models` lists the models that have names"
            )
        return Path(name)
    row = find(name)
    if row.path is None or not row.path.is_file():
        ours = row.source.startswith("bundled:")
        remedy = "install the package again" if ours else "correct its `source` in the registry"
        wrong = "is a folder" if row.path and row.path.is_dir() else "is missing"
        raise CheckpointError(f"{row.name}: its file {row.path} {wrong}: {remedy}")
    return row.path
