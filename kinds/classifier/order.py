"""What a classifier is trained from and how, and the port through which a kind has it trained. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Label = Literal["negative", "neutral", "positive"]

LABELS: tuple[Label, ...] = ("negative", "neutral", "positive")
"""In the order of a trained model's outputs."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class LabelledFile(BaseModel):
    """A file of labelled texts: which one, how it is read, and what its columns mean."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    name: str = Field(min_length=1, max_length=200)
    """For people, and for errors; the digest says which file it is."""
    sha256: Sha256
    text: str
    """Column with the text."""
    label: str | None = None
    """Column with the label; None where `targets` has the labels."""
    target: str | None = None
    """Column with the entity that the label is about; None: about the text as a whole."""
    targets: str | None = None
    """Column with a mapping target -> label, JSON or a Python literal: one example for each of its pairs."""
    map: Mapping[str, Label] = Field(default_factory=dict)
    """Label in the file -> class; empty: the file says negative, neutral and positive."""
    delimiter: str | None = None
    """Between the cells of a CSV file; None: found in the file."""
    encoding: str | None = None
    """Of its text; None: UTF-8, or UTF-16 with a byte order mark."""
    source: str | None = None
    """Where the file is from, for the model card."""
    licence: str | None = None
    """SPDX id, for the model card."""
    max_dropped_share: float = Field(default=0.2, ge=0, le=1)
    """Of its lines: if more cannot be used, nothing is trained. Public sets have a tenth of other labels."""

    @model_validator(mode="after")
    def _one_way_to_label(self) -> LabelledFile:
        if (self.label is None) == (self.targets is None) or (self.target and self.targets):
            raise ValueError(
                "name either a label column, with or without a target column, or a targets column"
            )
        return self


class Recipe(BaseModel):
    """How a classifier is fitted. The defaults are those of the bundled model, but for its dev share."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    rank: int = Field(default=48, ge=1, le=256)
    """Of the LoRA adapters on every linear layer (Hu et al. 2021, section 4.1); alpha is the same."""
    adapter_dropout: float = Field(default=0.1, ge=0, lt=1)
    learning_rate: float = Field(default=5e-4, gt=0, le=0.1)
    """Peak; AdamW, linear warm-up, then linear to nothing."""
    warmup_share: float = Field(default=0.06, ge=0, le=0.5)
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    epochs: int = Field(default=4, ge=1, le=100)
    """Of each member, at most; dev macro-F1 ends it earlier."""
    patience: int = Field(default=4, ge=1, le=1000)
    """Evaluations without a better dev macro-F1 after which it ends."""
    members: int = Field(default=2, ge=1, le=10)
    """Trainings from one beginning, with other draws of order and dropout; the model is their mean, of the
    same size. Each takes its time."""
    batch_size: int = Field(default=32, ge=1, le=1024)
    max_tokens: int = Field(default=96, ge=16, le=512)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    balance: float = Field(default=0.6, ge=0, le=1)
    """How much of the log prior of each file's labels is added to the logits while training (Menon et al.
    2021, "logit adjustment"): at 1 the model does not learn how frequent a label is in this file, at 0 it
    does. Between them macro-F1 on the dev part is best."""
    target_dropout: float = Field(default=0.5, ge=0, le=1)
    """Share of examples whose target is left out, so that the model judges a text without one too."""
    mixed_texts_alone: bool = False
    """Whether the target may be left out where the targets of one text have different labels. True teaches
    what a text says that moves several ways, and costs accuracy on such targets."""
    average: float = Field(default=0.998, ge=0, lt=1)
    """Decay a step of the moving average of weights that is evaluated and kept; 0 keeps the last weights."""
    bf16: bool = True
    """Matrix products in bfloat16 while training; evaluation and the finished model are fp32."""
    dev_share: float = Field(default=0.1, gt=0, lt=0.5)
    test_share: float = Field(default=0.2, gt=0, lt=0.5)
    evaluations_per_epoch: int = Field(default=1, ge=1, le=100)
    checkpoint_steps: int = Field(default=100, ge=1, le=1_000_000)
    """A training that is killed does at most this many steps again."""


class TrainingOrder(BaseModel):
    """One classifier to be trained; the payload of its job. The same order makes the same model."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    model: str
    """What it shall be called."""
    base: str
    """Installed model that it is fine-tuned from."""
    base_weights_sha256: Sha256
    files: tuple[LabelledFile, ...] = Field(min_length=1, max_length=20)
    recipe: Recipe = Recipe()
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of split, order of the examples and dropout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedClassifier:
    """What a training made: everything but the base model."""

    files: Mapping[str, bytes]
    """By name: model card, adapter with its settings, recipe, evaluation, labels."""
    metrics: Mapping[str, object] = field(default_factory=dict)
    """A few of the evaluation's figures."""


class Training(Protocol):
    """The port through which a kind has a model trained, outside the engines."""

    def train_classifier(self, order: TrainingOrder) -> TrainedClassifier:
        """Block until it is trained; goes on from the last checkpoint of this job, on whichever machine.

        Raises InputError for data that cannot be used, DeadlineError, or what ends an abandoned job.
        """
        ...
