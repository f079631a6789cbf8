"""Contestants written with this package; nothing here may import torch."""
