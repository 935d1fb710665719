"""Metrics of predictions, and calibration of their probabilities."""
