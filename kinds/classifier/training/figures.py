"""Held-out figures of a classifier, for each file and with or without targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.classification import classification_figures
from kinds.classifier.order import LABELS
from kinds.classifier.training.calibrate import Floats, probabilities
from kinds.classifier.training.data import Example

MIN_EXAMPLES = 10
"""Minimum number of examples of a subset that gets figures of its own."""

Predict = Callable[[Sequence[Example], bool], Floats]
"""Function that returns the logits of examples, with their targets or for the texts alone."""


def figures(logits: Floats, examples: Sequence[Example], temperature: float) -> dict[str, object]:
    """Return accuracy, macro-F1, F1 of each class, confusion and calibration error.

    The rows of the confusion matrix are the true labels, its columns the predicted ones.
    """
    found = classification_figures(labels_of(examples), probabilities(logits, temperature), LABELS)
    return {
        "num_examples": found.num_examples,
        "accuracy": round(found.accuracy, 4),
        "macro_f1": round(found.macro_f1, 4),
        "f1": {label: round(found.classes[label].f1, 4) for label in LABELS},
        "confusion": [list(row) for row in found.confusion],
        "calibration_error": round(found.calibration_error, 4),
    }


def evaluate(
    predict: Predict, examples: Sequence[Example], names: Mapping[int, str], temperature: float
) -> dict[str, object]:
    """Return figures for each file by its name, for all examples and, if the file has targets, for subsets.

    `one_target` has the texts with one labelled target, and `several_targets` the others; `text_alone` has
    the texts with one labelled target, but the model does not see it.
    """
    logits = predict(examples, True)
    found: dict[str, object] = {}
    for number, name in names.items():
        places = [place for place, each in enumerate(examples) if each.file == number]
        if places:
            of_file = [examples[place] for place in places]
            found[name] = _of_file(of_file, logits[places], predict, temperature)
    return found


def _of_file(
    examples: Sequence[Example], logits: Floats, predict: Predict, temperature: float
) -> dict[str, object]:
    found: dict[str, object] = {"all": figures(logits, examples, temperature)}
    if not any(each.target for each in examples):
        return found
    num_targets = Counter(each.line for each in examples)
    one = [place for place, each in enumerate(examples) if num_targets[each.line] == 1]
    several = [place for place, each in enumerate(examples) if num_targets[each.line] > 1]
    for name, places in (("one_target", one), ("several_targets", several)):
        if len(places) >= MIN_EXAMPLES:
            found[name] = figures(logits[places], [examples[place] for place in places], temperature)
    if len(one) >= MIN_EXAMPLES:
        alone = [examples[place] for place in one]
        found["text_alone"] = figures(predict(alone, False), alone, temperature)
    return found


def labels_of(examples: Sequence[Example]) -> NDArray[np.int64]:
    """Return the true labels as indices in LABELS."""
    return np.array([each.label for each in examples], dtype=np.int64)
