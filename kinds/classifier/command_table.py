"""The table of commands that train, evaluate and calibrate classifiers."""

from __future__ import annotations

from pressroom.command_table import Command

COMMANDS = (
    Command(
        "models calibrate",
        "kinds.classifier.commands.calibrate:calibrate",
        "Calibrate a classifier's probabilities with labelled texts like those that it will read.",
        kind="classifier",
    ),
    Command(
        "train classifier",
        "kinds.classifier.commands.train:train_classifier",
        "Fine-tune, calibrate, evaluate and install a classifier; repeat to continue after Ctrl-C.",
        kind="classifier",
        makes_batches=True,
    ),
    Command(
        "evaluate sentiment",
        "kinds.classifier.commands.evaluate:evaluate_sentiment",
        "Classify every text of a labelled file and print accuracy, F1, confusion, calibration and speed.",
        kind="sentiment_labels",
        makes_batches=True,
    ),
)
