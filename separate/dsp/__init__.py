"""Signal processing: one operation a file, torch only."""
