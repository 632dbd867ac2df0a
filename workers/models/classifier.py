"""What a classifier's outputs mean and how it is asked: `classifier.json` in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.errors import InputError
from kinds.classifier.order import LABELS, Label
from workers.models.files import MalformedFileError, read_json_object
from workers.models.reading import ModelFiles

CLASSIFIER = "classifier.json"

DEFAULT_MAX_TOKENS = 128
"""Of a model that was not trained here: headlines and posts have 20 to 60, and time grows with them."""

_SAME: Mapping[str, Label] = {
    "bearish": "negative",
    "bullish": "positive",
    "neg": "negative",
    "pos": "positive",
}
"""What other authors call the three."""


class LabelsUnknownError(InputError):
    """A model's settings do not say which of its outputs is negative, neutral and positive."""

    code = "model_labels_unknown"


class ClassifierSettings(BaseModel):
    """How an engine asks a classifier, and what it answers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    labels: dict[Label, Annotated[int, Field(ge=0, le=1000)]]
    """Place of each in the model's outputs."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """The logits are divided by it before the softmax."""
    input: Literal["text", "text_and_target"] = "text"
    """Whether the model was taught to read the pair (text, target)."""
    max_tokens: int = Field(default=DEFAULT_MAX_TOKENS, ge=8, le=8192)
    """A longer text is judged by its beginning."""

    @model_validator(mode="after")
    def _three_outputs(self) -> ClassifierSettings:
        if sorted(self.labels.values()) != list(range(len(LABELS))):
            raise ValueError("labels must name the outputs 0, 1 and 2 negative, neutral and positive")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Return the labels in the order of the model's outputs."""
        return tuple(sorted(self.labels, key=self.labels.__getitem__))


def read_classifier_settings(folder: Path, digests: Mapping[str, str] | None = None) -> ClassifierSettings:
    """Read the settings of an installed classifier; `digests` are those of its manifest.

    Raises MalformedFileError, NotAFileError or WeightsDigestError.
    """
    path = folder / CLASSIFIER
    try:
        return ClassifierSettings.model_validate_json(ModelFiles(folder, digests).read(CLASSIFIER))
    except (OSError, ValidationError) as error:
        raise MalformedFileError(f"{path}: {error}; delete {folder} and install the model again") from error


def settle_classifier(folder: Path, labels: Mapping[Label, int] | None = None) -> None:
    """Check the classifier.json of a model folder, or write the one that its config.json implies.

    `labels` overrides what the model says. Raises LabelsUnknownError or MalformedFileError.
    """
    if (folder / CLASSIFIER).is_file() and labels is None:
        read_classifier_settings(folder)
        return
    config = read_json_object(folder / "config.json")
    longest = config.get("max_position_embeddings")
    limit = longest if isinstance(longest, int) else DEFAULT_MAX_TOKENS
    try:
        settings = ClassifierSettings(
            labels=dict(labels) if labels is not None else _labels_of(config),
            max_tokens=min(limit, DEFAULT_MAX_TOKENS),
        )
    except ValidationError as error:
        raise LabelsUnknownError(f"{folder.name}: {error.errors()[0]['msg']}") from error
    (folder / CLASSIFIER).write_text(settings.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _labels_of(config: Mapping[str, object]) -> dict[Label, int]:
    """Read the labels from id2label, whose names differ between authors."""
    given = config.get("id2label")
    names = {str(key): str(value) for key, value in given.items()} if isinstance(given, dict) else {}
    found: dict[Label, int] = {}
    for place, name in names.items():
        plain = name.strip().lower()
        label = next((each for each in LABELS if each == plain), _SAME.get(plain))
        if label is None or label in found or not place.isdigit():
            break
        found[label] = int(place)
    if len(found) != len(LABELS) or len(names) != len(LABELS):
        raise LabelsUnknownError(
            f"the model calls its outputs {', '.join(names.values()) or 'nothing'}: say which is which with "
            "--labels negative=0,neutral=1,positive=2, as its author's page has them"
        )
    return found


def parse_labels(text: str) -> dict[Label, int]:
    """`negative=0,neutral=1,positive=2` -> places. Raises LabelsUnknownError.

    >>> parse_labels("positive=0, negative=1, neutral=2")["negative"]
    1
    """
    pairs = [part.partition("=") for part in text.split(",")]
    found: dict[Label, int] = {}
    for name, _, place in pairs:
        label = next((each for each in LABELS if each == name.strip().lower()), None)
        if label is None or label in found or not place.strip().isdigit():
            break
        found[label] = int(place)
    if len(pairs) != len(LABELS) or sorted(found.values()) != list(range(len(LABELS))):
        raise LabelsUnknownError(f"{text!r} is not negative=0,neutral=1,positive=2 in some order")
    return found
