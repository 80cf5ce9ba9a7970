"""What to do with many songs, and who does it."""
