"""The page that leads to the pages of many songs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from separate.audio.fileset import shown
from separate.player.files import check_ours, store
from separate.player.folder import Song
from separate.player.page import part

__all__ = ["write_index"]


def write_index(folder: Path, songs: Sequence[Song], *, force: bool = False) -> Path:
    """Write `index.html` with a link to every song's page."""
    path = folder / "index.html"
    if not force:
        check_ours(path)
    parts = {
        "title": escape(shown(folder.name or folder.resolve().name)),
        "facts": f"{len(songs)} songs",
        "style": part("style.css"),
        "songs": "\n".join(entry(folder, song) for song in songs),
    }
    whole = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], part("index.html"))
    store({"index": path}, {"index": whole.encode("utf-8", "replace")})
    return path


def entry(folder: Path, song: Song) -> str:
    """Write the link to a song."""
    way = song.page.relative_to(folder)
    link = quote(str(way).encode("utf-8", "surrogateescape"))
    above = shown(str(way.parent.parent)) if len(way.parts) > 2 else ""
    return (
        f'<li><a href="{link}"><strong>{escape(song.title)}</strong>'
        f"<span>{escape(' · '.join(filter(None, [above, ', '.join(song.stems)])))}</span></a></li>"
    )
