"""Contestants in PyTorch, written from the papers; nothing here imports JAX."""
