"""Trouble with the hub: when to try again, and what to tell the user. What its client raises becomes ours here."""

from __future__ import annotations

import difflib
import errno
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from separate.errors import CheckpointError

__all__ = ["FULL", "Unreachable", "amount", "hub_errors", "no_hub", "patiently", "say", "title"]

PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before a request is tried again that the hub was too busy for
LONGEST_PAUSE = 60.0  # which a hub may ask for
BUSY = (408, 429, 500, 502, 503, 504)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

T = TypeVar("T")


class Unreachable(CheckpointError):
    """A file is not here, and the hub cannot be asked for it."""


def patiently(call: Callable[[], T], quiet: bool, growing: Path | None = None) -> T:
    """Call, and again after a pause, and a longer one, as long as the hub is too busy.

    If the call makes a file grow, it is called again when the line breaks, too, and as long as the file does grow.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    tries, had = 0, -1
    while True:
        try:
            return call()
        except HTTPError as error:
            have = growing.stat().st_size if growing and growing.exists() else -1
            tries, had = (1, have) if have > had >= 0 else (tries + 1, have)
            answer = error.response if isinstance(error, HfHubHTTPError) else None
            again = answer.status_code in BUSY if answer is not None else growing is not None
            if tries > len(PAUSES) or not again:
                raise
            asked = answer.headers.get("Retry-After", "") if answer is not None else ""
            pause = min(float(asked), LONGEST_PAUSE) if asked.isdecimal() else PAUSES[tries - 1]
            trouble = f"the hub is busy ({answer.status_code})" if answer is not None else "the line is broken"
            say(f"{trouble}; trying again in {pause:g} s", quiet)
            time.sleep(pause)


@contextmanager
def hub_errors(repo: str, file: str = "", revision: str | None = None) -> Iterator[None]:
    """Translate what the client of the hub raises."""
    name = title(repo, file, revision)
    try:
        from huggingface_hub import constants, errors
        from huggingface_hub.hf_api import HfApi  # not as above: that would print what is wrong, too
    except ValueError as error:  # it reads its variables at once
        raise _setting(name, error) from error
    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise Unreachable("HF_HUB_OFFLINE keeps off the network") from error
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{name}: accept its terms at {constants.ENDPOINT}/{repo}, then log in by `hf auth login` or HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        user = repo.partition("/")[0]
        others = near(repo, lambda: (model.id for model in HfApi().list_models(author=user, limit=100)))
        raise CheckpointError(
            f"{name}: no such repository{others}, or it is private: log in by `hf auth login` or HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        others = near(revision or "", lambda: (ref.name for ref in HfApi().list_repo_refs(repo).branches))
        raise CheckpointError(f"{name}: no such revision{others}; without one you get the newest") from error
    except errors.RemoteEntryNotFoundError as error:
        others = near(file, lambda: _files(repo, revision))
        raise CheckpointError(f"{name}: no such file in this repository{others}") from error
    except errors.HFValidationError as error:
        raise CheckpointError(f"{name}: no name of a repository: {str(error).splitlines()[0]}") from error
    except errors.HfHubHTTPError as error:
        raise CheckpointError(f"{name}: {_refusal(error.response.status_code)}") from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError) as error:  # type: ignore[attr-defined]  # of its client
        why = str(error).splitlines()[0] or type(error).__name__
        raise Unreachable(
            f"the hub at {constants.ENDPOINT} cannot be reached ({why}); what has come so far is kept"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{name}: {_trouble(error, constants.HF_HUB_CACHE)}") from error
    except ValueError as error:
        raise _setting(name, error) from error


def no_hub(name: str) -> CheckpointError:
    """Say that something else answers."""
    from huggingface_hub import constants

    return CheckpointError(f"{name}: what answers at {constants.ENDPOINT} is no Hugging Face hub; see HF_ENDPOINT")


def _setting(name: str, error: ValueError) -> CheckpointError:
    """Say that a variable of the environment is wrong: which one, the client does not tell."""
    why = (str(error) or type(error).__name__).splitlines()[0]
    return CheckpointError(
        f"{name}: the hub cannot be asked: {why}; see HF_ENDPOINT, HF_TOKEN and the proxy's variables"
    )


def _files(repo: str, revision: str | None) -> list[str]:
    from huggingface_hub import HfApi

    return [entry.rfilename for entry in HfApi().model_info(repo, revision=revision, timeout=10).siblings or []]


def near(wanted: str, offer: Callable[[], Iterable[str]]) -> str:
    """Say which names are near a wrong one, or which there are, if that can be found out."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        names = list(offer())
    except (HTTPError, OSError, ValueError, KeyError, TypeError):  # the latter where something else answers
        return ""
    close = difflib.get_close_matches(wanted, names, n=3, cutoff=0.7)
    if close:
        return f" (did you mean {' or '.join(close)}?)"
    return f" (there are {', '.join(names[:8])}{' and more' if len(names) > 8 else ''})" if names else ""


def _refusal(status: int) -> str:
    """Say what a status of HTTP means for the user."""
    if status in (401, 403):
        return f"the hub refuses it ({status}): log in by `hf auth login` or HF_TOKEN, with a token that may read it"
    if status in (408, 429):
        return f"the hub has had too many requests ({status}): wait some minutes, or log in by `hf auth login`"
    if status >= 500:
        return f"the hub is in trouble ({status}), tried {len(PAUSES) + 1} times: try again later"
    return f"the hub refuses it ({status})"


def _trouble(error: OSError, cache: str) -> str:
    """Say what an error of the system means for the user."""
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"cannot be written to the cache {cache}: {error.strerror}; set HF_HOME to a folder of your own"
    if error.errno in FULL:
        return f"the disk is full: make room in {cache}, or set HF_HOME to a folder on another disk"
    where = f"{error.filename}: " if error.filename else ""
    why = error.strerror or str(error).splitlines()[0]
    return f"cannot be fetched: {where}{why}; see HF_HOME and SSL_CERT_FILE"


def title(repo: str, file: str = "", revision: str | None = None) -> str:
    """Name a file of the hub as users do."""
    return f"hf:{repo}" + (f"/{file}" if file else "") + (f"@{revision}" if revision else "")


def amount(size: int | None) -> str:
    """Write a number of bytes as people do."""
    if size is None:
        return "a file of unknown size"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def say(message: str, quiet: bool) -> None:
    """Tell the user what takes long, on stderr."""
    if not quiet:
        print(f"separate: {message}", file=sys.stderr, flush=True)
