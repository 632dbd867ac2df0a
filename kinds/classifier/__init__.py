"""Classifiers: their training, evaluation and calibration."""
