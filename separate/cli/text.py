"""Text for a terminal."""

from __future__ import annotations

from separate.audio.url import redacted

__all__ = ["clock", "one_line"]


def one_line(message: str) -> str:
    """Keep a message on its line: a file's name may hold line breaks, and bytes that are no text, a URL a password."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in redacted(message))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def clock(seconds: float) -> str:
    """Write a time as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
