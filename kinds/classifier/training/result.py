"""Writes the result of a training run: the calibrated, rounded adapter, its evaluation and the model card."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.classification import classification_figures
from jobs.shown import json_text
from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.training.calibration import Floats, fit_calibration, probabilities
from kinds.classifier.training.data import Example, LabelledData, Split
from kinds.classifier.training.fit import Progress
from kinds.classifier.training.network import Encoder, classifier_settings, predict, shift_head, write_adapter
from kinds.classifier.training_spec import TrainingSpec
from workers.engines.adapter import merged_model
from workers.models.adapters import ADAPTER
from workers.models.manifest import Manifest

MIN_EXAMPLES = 10
"""Minimum number of examples for which a subset has its own figures."""

Predict = Callable[[Sequence[Example], bool], Floats]
"""Function that returns the logits of examples, with their targets or for the texts alone."""


def figures(logits: Floats, examples: Sequence[Example], temperature: float) -> dict[str, object]:
    """Return the number of examples, accuracy, macro-F1, F1 of each class, confusion and calibration error.

    The rows of the confusion matrix are the true labels, its columns the predicted ones.
    """
    result = classification_figures(labels_of(examples), probabilities(logits, temperature), LABELS)
    return {
        "num_examples": result.num_examples,
        "accuracy": round(result.accuracy, 4),
        "macro_f1": round(result.macro_f1, 4),
        "f1": {label: round(result.classes[label].f1, 4) for label in LABELS},
        "confusion": [list(row) for row in result.confusion],
        "calibration_error": round(result.calibration_error, 4),
    }


def evaluate(
    predict: Predict, examples: Sequence[Example], names: Mapping[int, str], temperature: float
) -> dict[str, object]:
    """Return figures for each file by its name, for all examples and, if the file has targets, for subsets.

    `one_target` has the texts with one labelled target, and `several_targets` the others; `text_alone` has
    the texts with one labelled target, which is hidden from the model.
    """
    logits = predict(examples, True)
    by_name: dict[str, object] = {}
    for number, name in names.items():
        places = [place for place, each in enumerate(examples) if each.file == number]
        if places:
            of_file = [examples[place] for place in places]
            by_name[name] = _of_file(of_file, logits[places], predict, temperature)
    return by_name


def _of_file(
    examples: Sequence[Example], logits: Floats, predict: Predict, temperature: float
) -> dict[str, object]:
    by_name: dict[str, object] = {"all": figures(logits, examples, temperature)}
    if not any(each.target for each in examples):
        return by_name
    num_targets = Counter(each.line for each in examples)
    single = [place for place, each in enumerate(examples) if num_targets[each.line] == 1]
    several = [place for place, each in enumerate(examples) if num_targets[each.line] > 1]
    for name, places in (("one_target", single), ("several_targets", several)):
        if len(places) >= MIN_EXAMPLES:
            by_name[name] = figures(logits[places], [examples[place] for place in places], temperature)
    if len(single) >= MIN_EXAMPLES:
        alone = [examples[place] for place in single]
        by_name["text_alone"] = figures(predict(alone, False), alone, temperature)
    return by_name


def labels_of(examples: Sequence[Example]) -> NDArray[np.int64]:
    """Return the true labels as indices in LABELS."""
    return np.array([each.label for each in examples], dtype=np.int64)


_SUBSETS = {
    "all": "all, with their targets",
    "one_target": "texts with one target",
    "several_targets": "texts with several targets",
    "text_alone": "texts with one target, which the model does not see",
}


def render_card(
    spec: TrainingSpec, evaluation: Mapping[str, Any], *, licences: Sequence[str], adapter_bytes: int
) -> str:
    """Return the model card as Markdown. `evaluation` is the content of evaluation.json."""
    members = spec.recipe.members
    trained = f", the mean of {members} training runs from the same initial weights" if members > 1 else ""
    what = (
        "Sentiment of a financial text, as a whole or about one company in it: negative, neutral, positive. "
        f"LoRA adapters of rank {spec.recipe.rank} and a head ({adapter_bytes / 1e6:.1f} MB){trained}, on "
        f"`{spec.base}`, weights `{spec.base_weights_sha256[:12]}`; merged into it at installation."
    )
    lines = [f"# {spec.model}", "", what, "", "## Data", "", *_data(spec, evaluation)]
    lines += ["", "## Held-out figures", "", *_figures(evaluation)]
    lines += ["", "## Limits", "", *_limits(spec), "", "## Licence", ""]
    return "\n".join([*lines, *(f"- {licence}" for licence in licences), ""])


def _data(spec: TrainingSpec, evaluation: Mapping[str, Any]) -> list[str]:
    split = evaluation["split"]
    return [
        "| File | Examples | Skipped lines | From | Licence | sha256 |",
        "|---|---|---|---|---|---|",
        *_data_rows(spec, evaluation),
        "",
        f"Split by seed {spec.seed} in whole groups of near-duplicate texts: {split['num_train']} examples "
        f"train, {split['num_dev']} choose the best weights, the temperature and the offsets, "
        f"{split['num_test']} are held out; the figures below cover only these and use the weights as "
        "stored.",
    ]


def _figures(evaluation: Mapping[str, Any]) -> list[str]:
    classes = " | ".join(f"F1 {label}" for label in LABELS)
    return [
        f"| File | Examples | n | Accuracy | Macro-F1 | {classes} | ECE |",
        "|---|---|---|---|---|---|---|---|---|",
        *_figure_rows(evaluation["test"]),
        "",
        "ECE: expected calibration error, 15 bins; calibrated by offsets in the head's bias and by dividing "
        "the logits by "
        f"{evaluation['temperature']}.",
    ]


def _limits(spec: TrainingSpec) -> list[str]:
    return [
        "- English headlines and posts of a sentence or two. Only the first "
        f"{spec.recipe.max_tokens} tokens of a longer text are read: split it into sentences.",
        "- Its labels are those of its sets: the sentiment of the wording, not a price forecast.",
        "- Irony, rumours and negation over several clauses are often missed; entities of one sentence with "
        "opposite moods are distinguished less reliably than single ones.",
        "- The probabilities are calibrated on a held-out part of the same sets. A source with another share "
        "of neutral texts needs a model of its own: `pressroom train classifier` with some hundred labels.",
    ]


def _data_rows(spec: TrainingSpec, evaluation: Mapping[str, Any]) -> list[str]:
    rows = []
    for file, counts in zip(spec.files, evaluation["data"], strict=True):
        cells = (counts["num_examples"], counts["num_skipped"], file.source or "-", file.licence or "unknown")
        rows.append(f"| {file.name} | " + " | ".join(map(str, cells)) + f" | `{file.sha256}` |")
    return rows


def _figure_rows(test: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, subsets in test.items():
        for subset, entry in subsets.items():
            numbers = [
                entry["accuracy"],
                entry["macro_f1"],
                *entry["f1"].values(),
                entry["calibration_error"],
            ]
            figures = " | ".join(f"{number:.3f}" for number in numbers)
            rows.append(f"| {name} | {_SUBSETS[subset]} | {entry['num_examples']} | {figures} |")
    return rows


PACKAGES = ("torch", "transformers", "peft", "tokenizers", "scikit-learn", "datasketch")
MAX_SKIPPED_LISTED = 20


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A finished training run without its weights."""

    spec: TrainingSpec
    base: Manifest
    data: tuple[LabelledData, ...]
    split: Split
    progress: Progress

    @property
    def names(self) -> dict[int, str]:
        """Return the names of the files by index, with a number added where a name is repeated."""
        names: dict[int, str] = {}
        for number, file in enumerate(self.spec.files):
            names[number] = file.name if file.name not in names.values() else f"{file.name} ({number + 1})"
        return names


def write_result(folder: Path, run: TrainingRun, net: torch.nn.Module, encoder: Encoder) -> None:
    """Calibrate on the dev part, write the adapter, evaluate the rounded weights, and write the card."""
    folder.mkdir(exist_ok=True)
    dev = run.split.dev
    calibration = fit_calibration(_logits(net, encoder, dev, True), labels_of(dev))
    shifted = shift_head(net, calibration.offsets)
    write_adapter(net, folder)
    model = merged_model(net)

    def logits(examples: Sequence[Example], targets: bool) -> Floats:
        return _logits(model, encoder, examples, targets)

    temperature = calibration.temperature
    evaluation = {
        **_facts(run),
        "temperature": temperature,
        "offsets": dict(zip(LABELS, calibration.offsets if shifted else (0.0, 0.0, 0.0), strict=True)),
        "dev": evaluate(logits, dev, run.names, temperature),
        "test": evaluate(logits, run.split.test, run.names, temperature),
    }
    settings = classifier_settings(
        temperature=temperature,
        with_targets=any(example.target for example in run.split.train),
        max_tokens=encoder.max_tokens,
    )
    _write_json(folder / "classifier.json", settings)
    _write_json(folder / "evaluation.json", evaluation)
    _write_json(folder / "recipe.json", _recipe(run))
    card = render_card(
        run.spec, evaluation, licences=_licences(run), adapter_bytes=(folder / ADAPTER).stat().st_size
    )
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def _logits(net: torch.nn.Module, encoder: Encoder, examples: Sequence[Example], targets: bool) -> Floats:
    logits: Floats = predict(net, encoder, examples, targets=targets).double().numpy()
    return logits


def _facts(run: TrainingRun) -> dict[str, object]:
    split, progress = run.split, run.progress
    return {
        "data": [_data_facts(run.names[number], data) for number, data in enumerate(run.data)],
        "split": {
            "seed": run.spec.seed,
            "num_groups": split.num_groups,
            "num_train": len(split.train),
            "num_dev": len(split.dev),
            "num_test": len(split.test),
        },
        "history": [
            {"step": each.step, "loss": round(each.loss, 4), "dev_macro_f1": round(each.macro_f1, 4)}
            for each in progress.history
        ],
        "members": [
            {"best_step": each.best_step, "dev_macro_f1": round(each.macro_f1, 4)}
            for each in progress.members
        ],
    }


def _data_facts(name: str, data: LabelledData) -> dict[str, object]:
    return {
        "name": name,
        "num_examples": len(data.examples),
        "num_skipped": len(data.skipped),
        "skipped": [f"line {each.line} {each.reason}" for each in data.skipped[:MAX_SKIPPED_LISTED]],
        "num_of_label": {
            label: sum(example.label == place for example in data.examples)
            for place, label in enumerate(LABELS)
        },
    }


def _licences(run: TrainingRun) -> list[str]:
    base = run.base
    files = zip(run.names.values(), run.spec.files, strict=True)
    return [
        f"{base.name}: {base.licence or 'unknown'} ({base.source.partition('#')[0]})",
        *(f"{name}: {file.licence or 'unknown'}" for name, file in files),
    ]


def _recipe(run: TrainingRun) -> dict[str, object]:
    """Return all that determines the weights, except the processor, which may round sums differently."""
    base = run.base
    return {
        "training": run.spec.model_dump(mode="json"),
        "base": {
            "name": base.name,
            "source": base.source,
            "revision": base.revision,
            "licence": base.licence,
            "weights_sha256": base.weights_sha256,
            "tokenizer_sha256": base.tokenizer_sha256,
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "num_threads": torch.get_num_threads(),
    }


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json_text(value, indent=2) + "\n", encoding="utf-8")
