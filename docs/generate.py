"""Write what is made by a program into the documents, between comments: python docs/generate.py.

The `--help` pages go into usage.md, the cards of the registry's models into models.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from separate.checkpoints.cards import row_cards
from separate.checkpoints.registry import read_registry

USAGE = Path(__file__).with_name("usage.md")
MODELS = Path(__file__).with_name("models.md")
REGISTRY = Path(__file__).parents[1] / "checkpoints.toml"
PAGE = re.compile(r"(<!-- help: separate ([^\n]*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
CARDS = re.compile(r"(<!-- cards -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def help_page(arguments: str) -> str:
    """Return what `separate ARGUMENTS` prints on a terminal 100 columns wide that has no colours."""
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "GITHUB_ACTIONS")}
    environment |= {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    code = f"import sys; sys.argv = {['separate', *arguments.split()]}; from separate.cli import main; main()"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    return "\n".join(line.rstrip() for line in run.stdout.decode().strip("\n").splitlines()).strip("\n")


def pages(text: str) -> dict[str, str]:
    """Find the help pages in a document: arguments -> what stands there."""
    return {arguments: inside for _, arguments, inside, _ in PAGE.findall(text)}


def renewed(text: str) -> str:
    """Replace the help pages in a document by those of today."""
    return PAGE.sub(lambda found: f"{found[1]}```text\n{help_page(found[2])}\n```\n{found[4]}", text)


def with_cards(text: str) -> str:
    """Replace the cards in a document by those of today's registry."""
    cards = row_cards(read_registry(REGISTRY))
    return CARDS.sub(lambda found: f"{found[1]}{cards}\n{found[3]}", text)


if __name__ == "__main__":
    USAGE.write_text(renewed(USAGE.read_text("utf-8")), "utf-8")
    MODELS.write_text(with_cards(MODELS.read_text("utf-8")), "utf-8")
