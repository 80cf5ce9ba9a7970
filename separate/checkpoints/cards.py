"""Model cards: what is known of a model, as a page for people.

`hub_card` makes one of a checkpoint that is going to be published, of what its header says, and `row_card` one of a row
of the registry. Neither needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from separate.checkpoints.registry import FREE, Checkpoint
from separate.checkpoints.weights import Header

__all__ = ["hub_card", "row_card", "row_cards", "terms"]

# What the hub has names for; for others it wants `other`, and their name beside it.
HUB_LICENCES = {licence.lower() for licence in FREE} | {"cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl-3.0"}


def hub_card(header: Header, repo: str, parameters: int, size: int, more: str = "") -> str:
    """Write the card of a checkpoint of `size` bytes in the repository `repo`.

    `more` is what people wrote of it in Markdown: it takes the place of what would be made of the header.
    """
    stems = ", ".join(header.sources)
    facts = f"{parameters / 1e6:.1f} million parameters, {size / 1e6:.1f} MB, {header.sample_rate / 1000:g} kHz"
    parts = [
        front_matter(header),
        f"# {repo.partition('/')[2]}",
        f"Separates a song into {stems}. Architecture `{header.architecture}`: {facts}.",
        f"## How to use\n\n{usage(repo)}",
    ]
    if more:
        title, _, rest = more.strip().partition("\n")
        return "\n\n".join([*parts, (rest if title.startswith("# ") else more).strip()]) + "\n"
    parts += [f"## Licence\n\n{header.licence}: {terms(header.licence)}."]
    parts += [f"## Figures\n\n{figures(header.training.get('sdr'))}"]
    made = [line for name, value in header.training.items() if name != "sdr" for line in lines(name, value)]
    parts += ["## How it was made\n\n" + ("\n".join(made) or "Nobody wrote it down.")]
    parts += [f"## Settings\n\n```json\n{json.dumps(header.config, indent=2)}\n```"]
    return "\n\n".join(parts) + "\n"


def front_matter(header: Header) -> str:
    """Write what the hub itself reads of a card. JSON is YAML too, whatever the text holds."""
    known = header.licence.lower() in HUB_LICENCES
    licence = {"license": header.licence.lower()} if known else {"license": "other", "license_name": header.licence}
    tags = ["music", "music-source-separation", header.architecture, *header.sources]
    values = licence | {"library_name": "separate", "pipeline_tag": "audio-to-audio", "tags": tags}
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in values.items()), "---"])


def usage(repo: str) -> str:
    """Say how a model of the hub is used."""
    shell = f"pip install separate-music\nseparate song.mp3 --model hf:{repo}"
    code = f'from separate import Separator\n\nstems = Separator("hf:{repo}").separate("song.mp3")'
    safe = "The file is fetched once. It is of safetensors: data, nothing in it is executed."
    return f"```sh\n{shell}\n```\n\n```python\n{code}\n```\n\n{safe}"


def terms(licence: str) -> str:
    """Say in words what a licence lets people do with weights."""
    if licence in FREE:
        return "may be used for anything, commerce included"
    if "-NC" in licence or licence.startswith("LicenseRef-research"):
        return "for research only, not for commercial use"
    return "nobody says what it may be used for" if licence == "unknown" else "read it before you use the weights"


def figures(sdr: Any) -> str:
    """Write measured figures as a table."""
    if not isinstance(sdr, Mapping):
        return "None are known."
    values = {name: value for name, value in sdr.items() if isinstance(value, int | float)}
    table = [list(values), ["---"] * len(values), [str(value) for value in values.values()]]
    rows = [f"| {' | '.join(row)} |" for row in table]
    return "\n".join([*([f"{plain(sdr['what'])}:", ""] if "what" in sdr else []), *rows])


def lines(name: str, value: Any) -> Iterator[str]:
    """List a fact, or a table of them, as Markdown."""
    if isinstance(value, Mapping):
        yield f"- {plain(name)}:"
        yield from (f"  {line}" for inner, fact in value.items() for line in lines(inner, fact))
    else:
        said = ", ".join(map(str, value)) if isinstance(value, list) else value
        yield f"- {plain(name)}: {plain(said)}"


def plain(value: Any) -> str:
    """Keep a text on its line."""
    return " ".join(str(value).split())


def row_cards(rows: Mapping[str, Checkpoint]) -> str:
    """Write the cards of a registry, one below the other."""
    return "\n\n".join(row_card(row) for row in rows.values())


def row_card(row: Checkpoint) -> str:
    """Write the card of one model of a registry."""
    size = f"{row.megabytes:g} MB" if row.megabytes else "of unknown size"
    place = f"comes with the package, {size}" if row.source.startswith("bundled:") else f"`{row.source}`, {size}"
    facts = {
        "stems": ", ".join(row.stems),
        "sample rate": f"{row.sample_rate / 1000:g} kHz",
        "architecture": f"`{row.architecture}`",
        "licence": f"{row.licence}: {terms(row.licence)}",
        "where": place,
    }
    if row.sdr:
        said = ", ".join(f"{stem} {value:.1f}" for stem, value in row.sdr.items())
        facts["SDR, dB"] = f"{said} ({row.measured})" if row.measured else said
    table = "\n".join(f"| {name} | {plain(value)} |" for name, value in facts.items())
    return f"### Model {row.name}\n\n{plain(row.summary)}\n\n| | |\n| --- | --- |\n{table}"
