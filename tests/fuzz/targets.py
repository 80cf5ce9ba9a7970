"""What is fuzzed: everything that reads a file which somebody else may have made.

A target is valid small files, which get damaged, and what reads such a file to its end. Whatever it is given, it reads
it or raises a SeparateError, in bounded time and memory.
"""

from __future__ import annotations

from separate.checkpoints.foreign import read
from separate.checkpoints.weights import load
from separate.training.midi import read_midi
from tests.fuzz.checkpoints import METADATA, bags, files_of_weights, headers, read_bag
from tests.fuzz.foreign import (
    OPCODES,
    YAML,
    bundles,
    foreign,
    pickles,
    read_bundle,
    read_foreign,
    read_settings,
    settings,
)
from tests.fuzz.songs import read_song, read_tags, songs
from tests.fuzz.target import Seed, Target
from tests.fuzz.text import (
    JOURNAL,
    LOCK,
    RECIPE,
    REGISTRY,
    TOML,
    read_journal,
    read_lock_of,
    read_rows,
    read_training,
    scores,
)

__all__ = ["TARGETS"]

TARGETS = {
    "song": Target(songs, read_song),
    "tags": Target(songs, read_tags),
    "header": Target(headers, load, METADATA),
    "weights": Target(files_of_weights, load, METADATA),
    "bag": Target(bags, read_bag, YAML),
    "pickle": Target(pickles, read, OPCODES),
    "foreign": Target(foreign, read_foreign),
    "settings": Target(settings, read_settings, YAML),
    "bundle": Target(bundles, read_bundle),
    "registry": Target(lambda: {"checkpoints.toml": Seed(REGISTRY)}, read_rows, TOML),
    "recipe": Target(lambda: {"mine.toml": Seed(RECIPE)}, read_training, TOML),
    "lock": Target(lambda: {"lock.json": Seed(LOCK)}, read_lock_of),
    "journal": Target(lambda: {"journal.jsonl": Seed(JOURNAL)}, read_journal),
    "midi": Target(scores, read_midi),
}
