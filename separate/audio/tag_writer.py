# mypy: allow-untyped-calls
# (mutagen is a package without types)
"""Write what a song says about itself into its stems."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mutagen import id3
from mutagen.flac import FLAC, Picture
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from separate.audio.tag_reader import read_tags
from separate.audio.tags import FIELDS, FREE, TOTALS, Cover, Tags, first_line, mime_of

__all__ = ["copy_tags", "write_tags"]

# Bytes that one picture can have: FLAC's blocks end there; for Ogg mutagen's time grows with the square, 3 s for 8 MB.
_LARGEST_COVER = {"flac": 2**24 - 1, "ogg": 2**23, "opus": 2**23}


def copy_tags(
    source: str | Path, target: Path, format: str, *, stem: str | None = None, in_title: bool = False
) -> str | None:
    """Copy tags and cover art from a song to one of its stems: `read_tags`, then `write_tags`."""
    return write_tags(read_tags(source), target, format, stem=stem, in_title=in_title)


def write_tags(tags: Tags, target: Path, format: str, *, stem: str | None = None, in_title: bool = False) -> str | None:
    """Write a song's tags and cover art into one of its stems, whose name need not say its format.

    Args:
        tags: the song's.
        target: an audio file, complete and closed.
        format: the target's format, by its name in `formats.CONTAINERS`.
        stem: added as the subtitle, so that players can tell the stems of a song apart.
        in_title: write the stem into the title as well, for players that show nothing else: "Song (karaoke)".

    Returns:
        One line about what could not be copied, or None: a song never fails for its tags.

    Raises:
        OSError: the target could not be written and is perhaps damaged.
    """
    if tags.trouble:
        return tags.trouble
    values = dict(tags.values)
    if stem is not None:
        values["SUBTITLE"] = [*values.get("SUBTITLE", []), stem]
        if in_title:
            values["TITLE"] = [f"{title} ({stem})" for title in values.get("TITLE", [tags.name])]
    try:
        return _write(replace(tags, values=values), target, format)
    except Exception as error:
        system = _system_error(error)
        if system is not None:
            raise system from error
        return f"tags could not be written: {first_line(error)}"


def _system_error(error: BaseException) -> OSError | None:
    """Find the OSError that mutagen wrapped."""
    for candidate in (error, error.__cause__, error.__context__, *error.args):
        if isinstance(candidate, OSError) and candidate.errno is not None:
            return candidate
    return None


def _write(tags: Tags, target: Path, format: str) -> str | None:
    values = {name: clean for name, texts in tags.values.items() if (clean := list(_clean(texts)))}
    if not values and not tags.covers:
        return None
    if format in ("mp3", "wav"):
        return _write_id3(values, tags.covers, target, format)
    if format in ("m4a", "stem.mp4"):
        return _write_mp4(values, tags.covers, target)
    return _write_vorbis(values, tags.covers, target, format)


def _clean(texts: Iterable[str]) -> Iterable[str]:
    """Drop what no family of formats can hold: halves of characters and zeros, and values with nothing in them."""
    for text in texts:
        kept = text.replace("\0", "").encode("utf-8", "replace").decode()
        if kept.strip():
            yield kept


def _write_id3(values: dict[str, list[str]], covers: list[Cover], target: Path, format: str) -> str | None:
    file: Any = (MP3 if format == "mp3" else WAVE)(target)
    if file.tags is None:
        file.add_tags()
    odd = []
    for row in FIELDS:
        if row.name not in values:
            continue
        frame = getattr(id3, row.id3)
        if row.id3 == "COMM":
            file.tags.add(frame(encoding=3, lang="XXX", desc="", text=values[row.name]))
        elif row.id3 == "USLT":
            file.tags.add(frame(encoding=3, lang="XXX", desc="", text="\n\n".join(values[row.name])))
        elif row.name in ("DATE", "ORIGINALDATE"):
            dates = list(map(_date, values[row.name]))
            odd += [text for text, date in zip(values[row.name], dates, strict=True) if not date]
            if any(dates):
                file.tags.add(frame(encoding=3, text=list(filter(None, dates))))
        else:
            file.tags.add(frame(encoding=3, text=values[row.name]))
    for number, cover in enumerate(covers):
        # Frames of one description replace each other.
        description = cover.description if number == 0 else f"{cover.description} {number}".strip()
        mime = cover.mime or mime_of(cover.data)
        file.tags.add(id3.APIC(encoding=3, mime=mime, type=cover.kind, desc=description, data=cover.data))
    file.save()
    return f"left out, for {format} takes dates with a year alone: {', '.join(odd)}" if odd else None


def _date(text: str) -> str:
    """Find what ID3 has room for: a date that begins with its year, or the year of any other; "" if there is none."""
    if re.match(r"\d{4}(\D|$)|\d{8}$", text):
        return text
    year = re.search(r"(?<!\d)\d{4}(?!\d)", text)
    return year[0] if year else ""


def _write_vorbis(values: dict[str, list[str]], covers: list[Cover], target: Path, format: str) -> str | None:
    file: Any = {"flac": FLAC, "ogg": OggVorbis, "opus": OggOpus}[format](target)
    if file.tags is None:
        file.add_tags()
    for name, texts in values.items():
        number, _, total = texts[0].partition("/")
        if name in TOTALS and total:
            file.tags[name], file.tags[TOTALS[name][0]] = number, total
        else:
            file.tags[name] = texts
    encoded, warning = [], None
    for cover in covers:
        picture = Picture()
        picture.data, picture.type, picture.desc = cover.data, cover.kind, cover.description
        picture.mime = cover.mime or mime_of(cover.data)
        block = picture.write()
        if len(block) > _LARGEST_COVER[format]:
            warning = f"cover art left out: its {len(cover.data) / 1e6:.0f} MB are too much for {format}"
        elif format == "flac":
            file.add_picture(picture)
        else:
            encoded.append(base64.b64encode(block).decode("ascii"))
    if encoded:
        file.tags["METADATA_BLOCK_PICTURE"] = encoded
    file.save()
    return warning


def _write_mp4(values: dict[str, list[str]], covers: list[Cover], target: Path) -> str | None:
    file: Any = MP4(target)
    if file.tags is None:
        file.add_tags()
    for row in FIELDS:
        if row.name not in values:
            continue
        texts = values[row.name]
        if row.mp4 in ("trkn", "disk"):
            if found := re.match(r"\s*(\d{1,5})(?:\s*/\s*(\d{1,5}))?", texts[0]):
                file.tags[row.mp4] = [(min(int(found[1]), 65535), min(int(found[2] or 0), 65535))]
        elif row.mp4 == "tmpo":
            if found := re.match(r"\s*(\d{1,4})(?:[.,]\d+)?\s*$", texts[0]):
                file.tags["tmpo"] = [round(float(texts[0].replace(",", ".")))]
        elif row.mp4 == "cpil":
            file.tags["cpil"] = texts[0].strip().lower() in ("1", "true", "yes")
        elif row.mp4.startswith(FREE):
            file.tags[row.mp4] = [text.encode() for text in texts]
        else:
            file.tags[row.mp4] = texts
    kinds = {"image/jpeg": MP4Cover.FORMAT_JPEG, "image/png": MP4Cover.FORMAT_PNG}
    fitting = [MP4Cover(c.data, kinds[mime_of(c.data)]) for c in covers if mime_of(c.data) in kinds]
    if fitting:
        file.tags["covr"] = fitting
    file.save()
    return "cover art left out: m4a takes JPEG and PNG only" if len(fitting) < len(covers) else None
