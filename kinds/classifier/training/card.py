"""The model card, which describes the model, its data, its held-out figures and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kinds.classifier.order import LABELS, TrainingOrder

_SUBSETS = {
    "all": "all, with their targets",
    "one_target": "texts with one target",
    "several_targets": "texts with several targets",
    "text_alone": "texts with one target, not told",
}


def render_card(
    order: TrainingOrder, evaluation: Mapping[str, Any], *, licences: Sequence[str], adapter_bytes: int
) -> str:
    """Return the card as Markdown. `evaluation` is the content of evaluation.json."""
    members = order.recipe.members
    trained = f", the mean of {members} trainings from one beginning" if members > 1 else ""
    what = (
        "Sentiment of a financial text, as a whole or about one company in it: negative, neutral, positive. "
        f"LoRA adapters of rank {order.recipe.rank} and a head ({adapter_bytes / 1e6:.1f} MB){trained}, on "
        f"`{order.base}`, weights `{order.base_weights_sha256[:12]}`; merged into it at installation."
    )
    lines = [f"# {order.model}", "", what, "", "## Data", "", *_data(order, evaluation)]
    lines += ["", "## Held-out figures", "", *_figures(evaluation)]
    lines += ["", "## Limits", "", *_limits(order), "", "## Licence", ""]
    return "\n".join([*lines, *(f"- {licence}" for licence in licences), ""])


def _data(order: TrainingOrder, evaluation: Mapping[str, Any]) -> list[str]:
    split = evaluation["split"]
    return [
        "| File | Examples | Skipped lines | From | Licence | sha256 |",
        "|---|---|---|---|---|---|",
        *_data_rows(order, evaluation),
        "",
        f"Split by seed {order.seed} in whole groups of near-duplicate texts: {split['num_train']} examples "
        f"train, {split['num_dev']} choose the best weights, the temperature and the offsets, "
        f"{split['num_test']} are held out; the figures below are of those alone, on the weights as they are "
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


def _limits(order: TrainingOrder) -> list[str]:
    return [
        "- English headlines and posts of a sentence or two. A long text is judged by its first "
        f"{order.recipe.max_tokens} tokens: give it sentence by sentence.",
        "- Its labels are those of its sets: the mood of the wording, not a forecast of a price.",
        "- Irony, rumours and negation over several clauses are often missed; entities of one sentence with "
        "opposite moods are told apart less well than single ones.",
        "- The probabilities are calibrated on a held-out part of the same sets. A source with another share "
        "of neutral texts needs a model of its own: `pressroom train classifier` with some hundred labels.",
    ]


def _data_rows(order: TrainingOrder, evaluation: Mapping[str, Any]) -> list[str]:
    rows = []
    for file, counts in zip(order.files, evaluation["data"], strict=True):
        cells = (counts["num_examples"], counts["num_skipped"], file.source or "-", file.licence or "unknown")
        rows.append(f"| {file.name} | " + " | ".join(map(str, cells)) + f" | `{file.sha256}` |")
    return rows


def _figure_rows(test: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, subsets in test.items():
        for subset, found in subsets.items():
            numbers = [
                found["accuracy"],
                found["macro_f1"],
                *found["f1"].values(),
                found["calibration_error"],
            ]
            figures = " | ".join(f"{number:.3f}" for number in numbers)
            rows.append(f"| {name} | {_SUBSETS[subset]} | {found['num_examples']} | {figures} |")
    return rows
