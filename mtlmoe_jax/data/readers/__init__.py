"""Data sets on disk, each read into one source."""
