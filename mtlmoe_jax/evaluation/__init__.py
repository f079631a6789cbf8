"""Evaluation and prediction with a trained model, and their reports."""
