"""Held-out figures of a classifier, for each file and each way to ask it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.metrics.classification import classification_figures
from kinds.classifier.order import LABELS
from kinds.classifier.training.calibrate import Floats, probabilities
from kinds.classifier.training.data import Example

MIN_EXAMPLES = 10
"""Of a subset that gets figures of its own."""

Predict = Callable[[Sequence[Example], bool], Floats]
"""Logits of the examples; with their targets, or with the texts alone."""


def figures(logits: Floats, examples: Sequence[Example], temperature: float) -> dict[str, object]:
    """Accuracy, macro-F1, F1 of each class, confusion (rows: right, columns: said), calibration error."""
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
    """Figures for each file by its name: all examples, and where they differ from them these subsets:

    `one_target`: texts with one labelled target; `several_targets`: the others; `text_alone`: texts with one
    labelled target, which the model is not told.
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
    """The right answers, as places in LABELS."""
    return np.array([each.label for each in examples], dtype=np.int64)
