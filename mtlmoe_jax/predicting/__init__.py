"""Predictions for images, folders and videos, and the files they become."""
