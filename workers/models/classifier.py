"""The meaning of a classifier's outputs and the form of its inputs: `classifier.json` in its folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from jobs.errors import InputError
from jobs.validation import describe_first
from workers.models.files import MalformedFileError, read_json_object
from workers.models.reading import ModelFiles

CLASSIFIER = "classifier.json"

DEFAULT_MAX_TOKENS = 128
"""Default of max_tokens for a model that was not trained here: short posts have 20 to 60 tokens, and the time
grows with the length."""

_SAME: Mapping[str, str] = {
    "bearish": "negative",
    "bullish": "positive",
    "neg": "negative",
    "pos": "positive",
}
"""Mapping from other names of a label to ours, so that models of several authors are interchangeable."""

_NAMELESS = re.compile(r"label[ _-]?\d+")
"""Pattern of the name that transformers gives to an output that the model's author did not name."""


class LabelsUnknownError(InputError):
    """A model's configuration does not define the meaning of its outputs."""

    code = "model_labels_unknown"


Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class ClassifierSettings(BaseModel):
    """The input of a classifier and the meaning of its outputs."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    labels: dict[Label, Annotated[int, Field(ge=0, le=1000)]]
    """Index of each label in the model's outputs, from 0."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """Number by which the logits are divided before the softmax."""
    input: Literal["text", "text_and_target"] = "text"
    """Input on which the model was trained: the text alone, or the pair (text, target)."""
    max_tokens: int = Field(default=DEFAULT_MAX_TOKENS, ge=8, le=8192)
    """Maximum tokens of a text; only the beginning of a longer one is used."""

    @model_validator(mode="after")
    def _each_output_once(self) -> ClassifierSettings:
        if len(self.labels) < 2 or sorted(self.labels.values()) != list(range(len(self.labels))):
            raise ValueError(
                "there must be at least two labels, and each output of the model (0, 1, ...) must have "
                "exactly one"
            )
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
        reason = describe_first(error) if isinstance(error, ValidationError) else str(error)
        raise MalformedFileError(
            f"{path} cannot be used ({reason}): delete {folder} and install the model again"
        ) from error


def settle_classifier(folder: Path, labels: Mapping[str, int] | None = None) -> None:
    """Check the classifier.json of a model folder; write it if there is none or `labels` are given.

    A new file has the labels of config.json, unless `labels` are given. Raises LabelsUnknownError or
    MalformedFileError.
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
        raise LabelsUnknownError(
            f"the labels of {folder.name} cannot be used: {describe_first(error)}: give them with --labels"
        ) from error
    (folder / CLASSIFIER).write_text(settings.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _labels_of(config: Mapping[str, object]) -> dict[str, int]:
    """Return the labels in id2label with their indices, in lower case, because authors differ in spelling."""
    id2label = config.get("id2label")
    names = {str(key): str(value) for key, value in id2label.items()} if isinstance(id2label, dict) else {}
    labels = {_label(name): int(place) for place, name in names.items() if place.isdecimal()}
    has_names = not any(_NAMELESS.fullmatch(label) for label in labels)
    if len(labels) < 2 or len(labels) != len(names) or not has_names:
        shown = f"names its outputs {', '.join(names.values())}" if names else "does not name its outputs"
        raise LabelsUnknownError(
            f"the model {shown}: name them with "
            "--labels negative=0,neutral=1,positive=2, as documented on the model's page"
        )
    return labels


def _label(name: str) -> str:
    plain = name.strip().lower()
    return _SAME.get(plain, plain)


def parse_labels(text: str) -> dict[str, int]:
    """Parse `negative=0,neutral=1,positive=2` into indices by label. Raises LabelsUnknownError.

    >>> parse_labels("spam=1, Ham=0")
    {'spam': 1, 'ham': 0}
    """
    pairs = [part.rpartition("=") for part in text.split(",")]
    labels = {name.strip().lower(): place.strip() for name, _, place in pairs}
    places = sorted(int(place) for place in labels.values() if place.isdecimal())
    if "" in labels or len(pairs) < 2 or places != list(range(len(pairs))):
        raise LabelsUnknownError(
            f"{text!r} does not name each output once: write it as negative=0,neutral=1,positive=2"
        )
    return {label: int(place) for label, place in labels.items()}
