"""Writes the result of a training: calibrates and rounds it, measures it as stored, and describes it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from jobs.shown import json_text
from kinds.classifier.order import LABELS, TrainingOrder
from kinds.classifier.training.calibrate import Floats, fit_calibration
from kinds.classifier.training.card import render_card
from kinds.classifier.training.checkpoint import Progress
from kinds.classifier.training.data import Example, LabelledData
from kinds.classifier.training.export import classifier_settings, shift_head, write_adapter
from kinds.classifier.training.figures import evaluate, labels_of
from kinds.classifier.training.network import Encoder, predict
from kinds.classifier.training.split import Split
from workers.engines.adapter import merged_model
from workers.models.adapters import ADAPTER
from workers.models.manifest import Manifest

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "scikit-learn", "datasketch")
MAX_SKIPPED_LISTED = 20


@dataclass(frozen=True, slots=True)
class Made:
    """A finished training without its weights."""

    order: TrainingOrder
    base: Manifest
    data: tuple[LabelledData, ...]
    split: Split
    progress: Progress

    @property
    def names(self) -> dict[int, str]:
        """Return the names of the files by index, with a number added where a name is repeated."""
        names: dict[int, str] = {}
        for number, file in enumerate(self.order.files):
            names[number] = file.name if file.name not in names.values() else f"{file.name} ({number + 1})"
        return names


def write_result(folder: Path, made: Made, net: torch.nn.Module, encoder: Encoder) -> None:
    """Calibrate on the dev part, write the adapter, measure what was written, and describe it."""
    folder.mkdir(exist_ok=True)
    dev = made.split.dev
    calibration = fit_calibration(_logits(net, encoder, dev, True), labels_of(dev))
    shifted = shift_head(net, calibration.offsets)
    write_adapter(net, folder)
    model = merged_model(net)

    def logits(examples: Sequence[Example], targets: bool) -> Floats:
        return _logits(model, encoder, examples, targets)

    temperature = calibration.temperature
    evaluation = {
        **_facts(made),
        "temperature": temperature,
        "offsets": dict(zip(LABELS, calibration.offsets if shifted else (0.0, 0.0, 0.0), strict=True)),
        "dev": evaluate(logits, dev, made.names, temperature),
        "test": evaluate(logits, made.split.test, made.names, temperature),
    }
    settings = classifier_settings(
        temperature=temperature,
        with_targets=any(example.target for example in made.split.train),
        max_tokens=encoder.max_tokens,
    )
    _write_json(folder / "classifier.json", settings)
    _write_json(folder / "evaluation.json", evaluation)
    _write_json(folder / "recipe.json", _recipe(made))
    card = render_card(
        made.order, evaluation, licences=_licences(made), adapter_bytes=(folder / ADAPTER).stat().st_size
    )
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def _logits(net: torch.nn.Module, encoder: Encoder, examples: Sequence[Example], targets: bool) -> Floats:
    found: Floats = predict(net, encoder, examples, targets=targets).double().numpy()
    return found


def _facts(made: Made) -> dict[str, object]:
    split, progress = made.split, made.progress
    return {
        "data": [_data_facts(made.names[number], data) for number, data in enumerate(made.data)],
        "split": {
            "seed": made.order.seed,
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


def _licences(made: Made) -> list[str]:
    base = made.base
    files = zip(made.names.values(), made.order.files, strict=True)
    return [
        f"{base.name}: {base.licence or 'unknown'} ({base.source.partition('#')[0]})",
        *(f"{name}: {file.licence or 'unknown'}" for name, file in files),
    ]


def _recipe(made: Made) -> dict[str, object]:
    """Return all that the weights depend on, except the processor, which may round sums differently."""
    base = made.base
    return {
        "order": made.order.model_dump(mode="json"),
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
