"""Readers of weight files that execute nothing."""
