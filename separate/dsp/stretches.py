"""Long songs in stretches: memory that does not grow with a song, and results that do not depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Stretch", "stretches"]

FRAMES = 1024  # of one stretch


@dataclass(frozen=True)
class Stretch:
    """A part of a song, and what is around it that its frames and samples depend on."""

    heard: slice  # samples to transform
    kept: slice  # samples that are the stretch's own
    first: int  # the frame of the song that is the first one of what is heard
    frames: slice  # frames of what is heard that are the stretch's own

    @property
    def samples(self) -> slice:
        """Locate the stretch's own samples in what is heard."""
        return slice(self.kept.start - self.heard.start, self.kept.stop - self.heard.start)


def stretches(length: int, hop: int, context: int = 4) -> Iterator[Stretch]:
    """Cut a song of `length` samples.

    With frames of four hops, `context` is at least four: a sample depends on the frames up to two hops away, and those
    on the samples two hops further. What looks at more frames needs as many more.
    """
    for start in range(0, length, FRAMES * hop):
        stop = min(start + FRAMES * hop, length)
        first, last = max(0, start - context * hop), min(stop + context * hop, length)
        own = (start - first) // hop
        frames = slice(own, None if stop == length else own + FRAMES)
        yield Stretch(slice(first, last), slice(start, stop), first // hop, frames)
