"""The commands that train, evaluate and calibrate classifiers."""
