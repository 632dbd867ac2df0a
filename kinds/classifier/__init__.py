"""Training, evaluation and calibration of classifiers."""
