"""The pages of a suite of experiments."""
