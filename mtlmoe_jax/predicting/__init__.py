"""Prediction of many images: inputs, the run and what it writes."""
