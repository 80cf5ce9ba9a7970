"""Scripts that measure a claim each: `python -m benchmarks.NAME`, with a table at the end."""
