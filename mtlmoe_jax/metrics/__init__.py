"""Numbers about predictions and about runs, on NumPy arrays."""
