"""A checkpoint goes to the Hugging Face hub, laid out as `hf:user/repo` finds it.

model.safetensors   the checkpoint
README.md           its card: how to use it, licence, figures, how it was made
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from separate.checkpoints import hub
from separate.checkpoints.cards import hub_card
from separate.checkpoints.weights import load, read_header
from separate.errors import CheckpointError, UsageError

__all__ = ["Parcel", "pack", "send"]


@dataclass(frozen=True)
class Parcel:
    """What goes up, and where."""

    repo: str  # user/name
    weights: Path
    card: str

    @property
    def sizes(self) -> dict[str, int]:
        """The files as they are called there, and their bytes."""
        return {"model.safetensors": self.weights.stat().st_size, "README.md": len(self.card.encode())}


def pack(path: Path, repo: str) -> Parcel:
    """Make a parcel of the checkpoint at `path`, after checking that it can be used.

    A card in Markdown beside it, of the same name, becomes part of the card there.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        raise UsageError(f"{repo}: a repository on the hub is written user/name")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: a bag of models; publish each of them, one .safetensors a repository")
    header = read_header(path)
    if header.licence == "unknown":
        raise CheckpointError(
            f"{path}: it does not say what it may be used for, and what has no licence is of use to nobody: "
            "make it with one, by --licence of `separate convert` or `licence` in a recipe"
        )
    model = load(path)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    beside = path.with_suffix(".md")
    try:
        more = beside.read_text("utf-8") if beside.is_file() else ""
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{beside}: the card cannot be read: {error}") from error
    return Parcel(repo, path, hub_card(header, repo, parameters, path.stat().st_size, more))


def send(parcel: Parcel, *, private: bool = False) -> str:
    """Send a parcel, in one commit, and return that commit's name. A repository that is not there is made."""
    with hub.hub_errors(parcel.repo):
        from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if hub.is_offline():
        raise CheckpointError(f"hf:{parcel.repo}: cannot be published, HF_HUB_OFFLINE keeps off the network")
    if get_token() is None:
        raise CheckpointError(
            f"hf:{parcel.repo}: log in first, by `hf auth login` or HF_TOKEN, with a token that may write"
        )
    api = HfApi()

    def commit() -> str:
        weights = CommitOperationAdd("model.safetensors", parcel.weights)
        card = CommitOperationAdd("README.md", parcel.card.encode())
        title = f"Publish {parcel.weights.name}"
        return str(api.create_commit(parcel.repo, [weights, card], commit_message=title).oid)

    with upload_errors(parcel.repo):
        hub.patiently(partial(api.create_repo, parcel.repo, private=private, exist_ok=True), quiet=False)
        return hub.patiently(commit, quiet=False)


@contextmanager
def upload_errors(repo: str) -> Iterator[None]:
    """Translate what the client raises of whoever sends; the rest is the same as of whoever fetches."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        with hub.hub_errors(repo):
            try:
                yield
            except HfHubHTTPError as error:
                if (code := error.response.status_code) not in (401, 403):
                    raise
                raise CheckpointError(
                    f"hf:{repo}: the hub refuses it ({code}): the token may not write there"
                ) from error
            except HFValidationError:
                raise
            except (RuntimeError, ValueError) as error:  # of transfers, whichever protocol they are by
                cause = error.__cause__ or error
                status = f"status {cause.response.status_code}, " if isinstance(cause, HfHubHTTPError) else ""
                reason = status + " ".join(str(cause).split())
                raise CheckpointError(f"hf:{repo}: the transfer failed, nothing is published: {reason}") from error
    except hub.Unreachable as error:
        raise CheckpointError(
            f"hf:{repo}: the hub at {constants.ENDPOINT} cannot be reached, nothing is published"
        ) from error
