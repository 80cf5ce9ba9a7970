"""Let coverage lead the damage: what reaches code that no input has reached yet is damaged further.

    pip install atheris
    python -m benchmarks.fuzz_guided TARGET [KIND] [-max_total_time=60] [libFuzzer's other options]

The targets are those of tests/fuzz, a KIND is the name of one of their files. It suits what is written in Python:
registry, recipe, lock, journal, midi, bundle, settings, bag, pickle, header.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

PARSERS = ["separate", "json", "pickle", "tomllib", "yaml", "zipfile"]

with atheris.instrument_imports(include=PARSERS):
    from separate.errors import SeparateError
    from tests.fuzz.targets import TARGETS

LONGEST, LARGEST = 5, 1024  # seconds and MB of an input, as in benchmarks.fuzz


def main() -> None:
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    if not names or names[0] not in TARGETS:
        raise SystemExit(f"{__doc__}\nThere are {', '.join(TARGETS)}")
    target = TARGETS[names[0]]
    seeds = target.seeds()
    kind = names[1] if len(names) > 1 else next(iter(seeds))
    with tempfile.TemporaryDirectory() as name:
        corpus, path = Path(name, "corpus"), Path(name, kind)
        corpus.mkdir()
        (corpus / "whole").write_bytes(seeds[kind].body)
        words = Path(name, "words")
        words.write_text("".join('"' + "".join(map("\\x{:02x}".format, word[:64])) + '"\n' for word in target.tokens))

        def read(data: bytes) -> None:
            path.write_bytes(seeds[kind].wrap(data))
            with contextlib.suppress(SeparateError):
                target.read(path)

        limits = [f"-timeout={LONGEST}", f"-rss_limit_mb={LARGEST}", f"-dict={words}", "-len_control=0"]
        options = [word for word in sys.argv[1:] if word.startswith("-")]
        atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
