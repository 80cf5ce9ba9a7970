"""`separate publish CKPT user/repo`: a checkpoint goes to the Hugging Face hub, with its card."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["publish_command"]

CHECKPOINT_HELP = "A checkpoint file, or a name of `separate models`."
REPO_HELP = "The repository on the hub. It is made if it is not there."
YES_HELP = "Send it. Without this it is only shown what would be sent."
PRIVATE_HELP = "Make the repository one that only you see."


def publish_command(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help=CHECKPOINT_HELP, show_default=False)],
    repo: Annotated[str, typer.Argument(metavar="USER/REPO", help=REPO_HELP, show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help=YES_HELP)] = False,
    private: Annotated[bool, typer.Option("--private", help=PRIVATE_HELP)] = False,
) -> None:
    """Publish a checkpoint on the Hugging Face hub, with a card, for others to use as hf:USER/REPO.

    Without --yes nothing is sent: the files and the card are only shown. A text of the same name
    beside the checkpoint, in Markdown, becomes part of the card.
    """
    from separate.checkpoints.publish import pack, send
    from separate.checkpoints.resolve import resolve

    parcel = pack(resolve(checkpoint, quiet=True), repo)
    if yes:
        commit = send(parcel, private=private)
        print(f"published: separate song.mp3 --model hf:{repo}@{commit}")
        return
    print(parcel.card)
    for name, size in parcel.sizes.items():
        print(f"hf:{repo}/{name}: {size:,} bytes")
    print("Nothing has been sent. This and the card above would be, with --yes.")
