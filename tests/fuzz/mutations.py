"""How a valid file is damaged: a few edits, each cutting, dropping, putting, doubling or counting wrong."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["KINDS", "VALUES", "Edit", "edits", "mutated"]

KINDS = ("cut", "drop", "put", "over", "flip", "twice", "number")

# What parsers trip over, in bytes ...
VALUES: tuple[bytes, ...] = (b"\0", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff", b"\xff\xff", b"\xff" * 4, b"\xff" * 8)
VALUES += (b"\x80", b"\x80\0\0\0", b"\0\0\0\x80", b"\x01", b"\x01\0\0\0", b"\0\0\0\x01", b"\xed\xa0\x80", b"\xfe\xff")
# ... and in text.
VALUES += (b"0", b"-1", b"1", b"2147483648", b"9223372036854775808", b"1e308", b"1e999", b"0.5", b"9" * 5000)
VALUES += (b"NaN", b"null", b"true", b'""', b'"', b"[]", b"{}", b"[", b"]", b"{", b"}", b":", b",", b"\n", b"\\u0000")
VALUES += (b"[" * 3000, b'{"a":' * 3000, b"\\ud800", b"../../x", b"/")


class Edit(NamedTuple):
    """One damage: what is done, where (as a share of the file), to how many bytes, with which."""

    kind: str
    at: float
    length: int
    value: bytes


def mutated(body: bytes, changes: Sequence[Edit]) -> bytes:
    """Damage a file's bytes, one edit after the other."""
    for kind, share, length, value in changes:
        at = int(share * len(body))
        if kind == "cut":
            body = body[:at]
        elif kind == "drop":
            body = body[:at] + body[at + length :]
        elif kind == "put":
            body = body[:at] + value + body[at:]
        elif kind == "over":
            body = body[:at] + value + body[at + len(value) :]
        elif kind == "flip" and at < len(body):
            body = body[:at] + bytes([body[at] ^ 1 << length % 8]) + body[at + 1 :]
        elif kind == "twice":
            body = body[:at] + body[at : at + length] + body[at:]
        elif kind == "number" and (numbers := list(re.finditer(rb"\d+", body))):
            found = numbers[int(share * len(numbers))]
            body = body[: found.start()] + value + body[found.end() :]
    return body


def edits(rng: random.Random, tokens: Sequence[bytes] = ()) -> list[Edit]:
    """Draw one to six edits; half of them are near the beginning, where formats keep what counts."""
    made = []
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.random() ** rng.choice((1, 4))
        value = (
            rng.choice(tokens or VALUES)
            if rng.random() < 0.3
            else rng.choice((*VALUES, rng.randbytes(rng.choice((1, 2, 4, 8)))))
        )
        made.append(Edit(rng.choice(KINDS), at, rng.choice((1, 2, 4, 16, 100, 1000)), value))
    return made
