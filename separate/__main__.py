"""`python -m separate` is `separate`."""

from separate.cli import main

main()
