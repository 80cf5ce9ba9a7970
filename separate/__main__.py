"""`python -m separate` is `separate`."""

from separate.cli import process

process()
