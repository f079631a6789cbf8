"""Small shared tools: files, progress."""
