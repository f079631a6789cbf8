"""Mixtures of experts on arrays: gates, dispatch, combine. Needs JAX alone."""
