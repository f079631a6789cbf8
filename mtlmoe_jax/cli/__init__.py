"""The command line: one module per verb, `flags` and `start` for all."""
