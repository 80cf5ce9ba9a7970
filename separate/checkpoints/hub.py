"""Files of the Hugging Face hub: found in its cache, fetched, verified, removed. The only place that fetches from it.

The cache, its tokens and its settings (HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, ...) are those of
`huggingface_hub`. What its client would begin anew after a crash we fetch ourselves, into

    models--user--repo/blobs/ETAG.separate.incomplete

and go on there the next time. A file counts as present when it is complete, in its place, and what the lock says.

Files that the hub keeps in Xet the client fetches itself. What it is called by, the SHA-256, is then a link, too:

    models--user--repo/snapshots/COMMIT/file -> models--user--repo/blobs/SHA-256 -> blobs/3f/3f...

The last is named by a hash of Xet's own, and is that of all repositories that hold the same.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from separate.checkpoints.lock import drop, lock_path, matches, names_its_content
from separate.checkpoints.trouble import FULL, Unreachable, amount, hub_errors, no_hub, patiently, say, title
from separate.errors import CheckpointError

__all__ = [
    "Unreachable",
    "cached",
    "cached_files",
    "commit_of",
    "commits",
    "fetch",
    "files_of",
    "hub_errors",
    "intact",
    "is_offline",
    "patiently",
    "remove",
]

PARTIAL = 206  # the status of the rest of a file


def cached(repo: str, file: str, revision: str | None = None) -> Path | None:
    """Find a file in the cache, without the network; whether it is intact is another question."""
    with hub_errors(repo, file, revision):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(repo, file, _folder(repo).parent, _commit(repo, revision))
    return Path(found) if isinstance(found, str) else None


def commit_of(repo: str, path: Path) -> str:
    """Say of which commit a file of the cache is."""
    return path.relative_to(_folder(repo) / "snapshots").parts[0]


def commits(repo: str) -> list[str]:
    """List the commits of which there are files in the cache."""
    with hub_errors(repo):
        return sorted(path.name for path in (_folder(repo) / "snapshots").glob("*"))


def intact(repo: str, path: Path) -> bool:
    """Tell whether a file of the cache is what it was when it came."""
    return matches(_key(repo, path), path)


def is_offline() -> bool:
    """Tell whether the user forbids the network, by HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def fetch(repo: str, file: str, revision: str | None = None, *, quiet: bool = False, update: bool = False) -> Path:
    """Get a file of a repository: from the cache if it is there and intact, else from the hub.

    Without a `revision` the newest that is in the cache will do, or by `update` the newest that the hub has.
    """
    name, path = title(repo, file, revision), cached(repo, file, revision)
    whole = False
    try:
        with hub_errors(repo, file, revision):
            whole = path is not None and intact(repo, path)
            if path and whole and (not update or is_offline() or commit_of(repo, path) == revision):
                return path
            if path and not whole:
                say(f"{name}: damaged in the cache; fetching it again", quiet)
            found = _download(repo, file, revision, quiet)
            if intact(repo, found):
                return found
    except Unreachable as error:
        if path and whole:
            say(f"{name}: in the cache; whether it is the newest cannot be asked: {error}", quiet)
            return path
        raise Unreachable(f"{name}: {'damaged' if path else 'not'} in the cache, and {error}") from error
    raise CheckpointError(
        f"{name}: the hub sends another file than the one noted in {lock_path()}; if you trust it, "
        "remove the model by `separate models remove` and pull it again"
    )


def files_of(repo: str, revision: str | None = None) -> list[str]:
    """List the files of a repository that the hub has."""
    with hub_errors(repo, revision=revision):
        from huggingface_hub import HfApi, constants

        ask = partial(HfApi().model_info, repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        try:
            return [entry.rfilename for entry in patiently(ask, quiet=True).siblings or []]
        except (JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:  # a page to log in, perhaps
            raise no_hub(title(repo, revision=revision)) from error


def cached_files(repo: str, revision: str | None = None) -> list[str]:
    """List the files of a repository that are in the cache."""
    with hub_errors(repo, revision=revision):
        folder = _folder(repo) / "snapshots" / _commit(repo, revision)
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def remove(repo: str, paths: Sequence[Path]) -> int:
    """Remove files from the cache, what they point to unless something else does too, and transfers that broke off.

    Returns the bytes set free.
    """
    folder, free = _folder(repo), 0
    with hub_errors(repo):
        drop([_key(repo, path) for path in paths])
        for path in paths:
            size = path.stat().st_size
            for step in _steps(path):
                if step in _linked(folder):
                    break
                step.unlink()
            else:
                free += size
        for part in (folder / "blobs").glob("*.incomplete"):
            free += part.stat().st_size
            part.unlink()
    return free


def _steps(path: Path) -> list[Path]:
    """List a file of the cache and what it is a link to, step by step; the last one has the content."""
    steps = [path]
    while steps[-1].is_symlink():
        steps.append(Path(os.path.abspath(steps[-1].parent / os.readlink(steps[-1]))))
    return steps


def _linked(folder: Path) -> set[Path]:
    """List what is linked to: by the snapshots in a repository's folder, and by the blobs of all repositories."""
    links = (*(folder / "snapshots").rglob("*"), *folder.parent.glob("*/blobs/*"))
    return {_steps(link)[1] for link in links if link.is_symlink()}


def _key(repo: str, path: Path) -> str:
    """Name a file of the cache in the lock: user/repo@commit/file."""
    return f"{repo}@{path.relative_to(_folder(repo) / 'snapshots').as_posix()}"


def _commit(repo: str, revision: str | None) -> str:
    """Say which commit a revision is, as far as the cache knows."""
    ref = _folder(repo) / "refs" / (revision or "main")
    try:
        return ref.read_text("utf-8").strip() if ref.is_file() else revision or "main"
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{ref}: is damaged; delete it, and the hub is asked which commit it is") from error


def _folder(repo: str) -> Path:
    """Say where the cache has what is of a repository, by one name only: its client resolves some paths, not all."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(os.path.realpath(constants.HF_HUB_CACHE)) / repo_folder_name(repo_id=repo, repo_type="model")


def _download(repo: str, file: str, revision: str | None, quiet: bool) -> Path:
    """Fetch a file into the cache, going on where an earlier attempt broke off."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.utils import WeakFileLock, tqdm  # type: ignore[attr-defined]

    name, folder = title(repo, file, revision), _folder(repo)
    meta = patiently(partial(get_hf_file_metadata, hf_hub_url(repo, file, revision=revision)), quiet)
    if not (re.fullmatch(r"[\w-]+", meta.commit_hash or "") and re.fullmatch(r"[\w.-]+", meta.etag or "")):
        raise no_hub(name)
    blob = folder / "blobs" / str(meta.etag)
    lock = folder.parent / ".locks" / folder.name / f"{meta.etag}.separate.lock"
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    bar: Any = partial(tqdm, disable=True if quiet else None, desc=file)  # None: where there is a terminal

    def by_client() -> Path:
        """Let the client name the blob, and fetch it by Xet if it is not there."""
        with _silent_client():
            return Path(hf_hub_download(repo, file, revision=revision, cache_dir=folder.parent, tqdm_class=bar))

    # Two processes may want it at once: the second one waits, and then finds it.
    with WeakFileLock(lock):
        if blob.exists() and not names_its_content(blob.name, blob):
            _discard(blob)
        if not blob.exists():
            _check_room(name, blob, meta.size)
            say(f"{name}: fetching {amount(meta.size)} into {folder.parent}", quiet)
            if meta.xet_file_data and find_spec("hf_xet") and not constants.HF_HUB_DISABLE_XET:
                try:
                    path = by_client()
                    if not names_its_content(blob.name, path):
                        raise ValueError("what came is not what the hub says that it holds")
                    return path
                except Exception as error:  # of whatever kind: there is another way, which says what is wrong with it
                    _discard(blob)
                    say(f"{name}: not to be had by Xet ({_reason(error)}); fetching it the plain way", quiet)
            _complete(hf_hub_url(repo, file, revision=meta.commit_hash), meta.size, blob, name, quiet, bar)
        return by_client()


def _discard(blob: Path) -> None:
    """Remove a blob that is not what its name says, and the one of all repositories that it is a link to."""
    for step in _steps(blob):
        step.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """Take the first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _complete(url: str, size: int | None, blob: Path, name: str, quiet: bool, bar: Any) -> None:
    """Fetch a blob, or what is missing of it; it gets its name when it is whole and what it should be."""
    part = part_of(blob)
    try:
        patiently(partial(_transfer, url, size, part, bar), quiet, growing=part)
    except OSError as error:
        if error.errno in FULL:
            part.unlink()  # so that the disk is as full as before
        raise
    # Some mirrors call a file by no hash: then its length is all that tells.
    if size not in (None, part.stat().st_size) or not names_its_content(blob.name, part):
        part.unlink()
        raise CheckpointError(f"{name}: what came is not what the hub says that it holds; try again")
    part.replace(blob)


def _transfer(url: str, size: int | None, part: Path, bar: Any) -> None:
    """Fetch what follows on what there is."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    with part.open("ab") as target:
        here = target.tell()
        if here == size:
            return
        if size is None or here > size:
            here = target.truncate(0)
        # Compressed, it would have other offsets.
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
        with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as answer:
            hf_raise_for_status(answer)
            if here and answer.status_code != PARTIAL:
                here = target.truncate(0)
            with bar(total=size, initial=here, unit="B", unit_scale=True) as shown:
                for chunk in answer.iter_bytes():
                    target.write(chunk)
                    target.flush()
                    shown.update(len(chunk))


def _check_room(name: str, blob: Path, size: int | None) -> None:
    """Refuse to begin what the disk cannot hold."""
    here = part_of(blob).stat().st_size if part_of(blob).exists() else 0
    free = shutil.disk_usage(blob.parent).free
    if size is not None and size - here > free:
        raise CheckpointError(
            f"{name}: {amount(size - here)} do not fit the {amount(free)} that are free in {blob.parents[2]}; "
            "make room, or set HF_HOME to a folder on another disk"
        )


def part_of(blob: Path) -> Path:
    """Say where a blob grows until it is whole."""
    return blob.with_name(f"{blob.name}.separate.incomplete")


@contextmanager
def _silent_client() -> Iterator[None]:
    """Keep the hub's client from talking to the user beside us."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
