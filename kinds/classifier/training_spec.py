"""The specification of a training run, and the port through which a kind trains a classifier.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from jobs.intake.dialect import FileOptions
from kinds.classifier.labelled_texts import LabelColumns

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class LabelledFile(LabelColumns):
    """A file of labelled texts, with its format and the meaning of its columns."""

    name: str = Field(min_length=1, max_length=200)
    """Name by which the file is found in the data folder and shown to people; the digest identifies its
    content."""
    sha256: Sha256
    delimiter: str | None = None
    """Delimiter of a CSV file; None if it is detected."""
    encoding: str | None = None
    """Encoding of the file; None for UTF-8, or for UTF-16 with a byte order mark."""
    source: str | None = None
    """Origin of the file, for the model card."""
    licence: str | None = None
    """SPDX identifier of the licence, for the model card."""
    max_dropped_share: float = Field(default=0.2, ge=0, le=1)
    """Maximum share of unusable lines; with more, nothing is trained. In public data sets, a tenth of the
    lines have labels that belong to none of the three classes."""

    @property
    def options(self) -> FileOptions:
        """Return the options for reading the file."""
        return FileOptions(delimiter=self.delimiter, encoding=self.encoding)


class Recipe(BaseModel):
    """The settings of a training run. Except for the dev share, the defaults are those of the bundled
    model."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    rank: int = Field(default=48, ge=1, le=256)
    """Rank of the LoRA adapters on every linear layer (Hu et al. 2021, section 4.1); alpha is equal to it."""
    adapter_dropout: float = Field(default=0.1, ge=0, lt=1)
    learning_rate: float = Field(default=5e-4, gt=0, le=0.1)
    """Peak learning rate of AdamW, with linear warm-up and then linear decay to zero."""
    warmup_share: float = Field(default=0.06, ge=0, le=0.5)
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    epochs: int = Field(default=4, ge=1, le=100)
    """Maximum number of epochs of each member; training ends earlier if dev macro-F1 stops improving."""
    patience: int = Field(default=4, ge=1, le=1000)
    """Number of evaluations without a better dev macro-F1 after which a member's training ends."""
    members: int = Field(default=2, ge=1, le=10)
    """Number of training runs that start from the same weights and differ in data order and dropout. The
    model is the mean of their weights, so it is no larger than the model of a single run; each run adds its
    full training time."""
    batch_size: int = Field(default=32, ge=1, le=1024)
    max_tokens: int = Field(default=96, ge=16, le=512)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    balance: float = Field(default=0.6, ge=0, le=1)
    """Share of the log prior of each file's labels that is added to the logits during training (Menon et al.
    2021, "logit adjustment"). At 1 the model does not learn how frequent a label is in this file, at 0 it
    does; a value in between gives the best macro-F1 on the dev part."""
    target_dropout: float = Field(default=0.5, ge=0, le=1)
    """Share of examples whose target is left out, so that the model can also judge a text without one."""
    mixed_texts_alone: bool = False
    """Whether the target can also be left out if the targets of one text have different labels. True teaches
    the model to judge such a text as a whole, and costs accuracy on its targets."""
    average: float = Field(default=0.998, ge=0, lt=1)
    """Decay per step of the moving average of weights, which is evaluated and kept; 0 for none."""
    bf16: bool = True
    """Whether matrix products use bfloat16 during training; evaluation and the finished model use fp32."""
    dev_share: float = Field(default=0.1, gt=0, lt=0.5)
    test_share: float = Field(default=0.2, gt=0, lt=0.5)
    evaluations_per_epoch: int = Field(default=1, ge=1, le=100)
    checkpoint_steps: int = Field(default=100, ge=1, le=1_000_000)
    """Steps between two checkpoints; a training run that is killed repeats at most this many."""


class Plan(BaseModel):
    """The plan of a repeatable training run: the new model's name, the base model, the seed, the files by
    digest, and the recipe."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    model: str
    """Name of the new model."""
    base: str
    """Installed model that is fine-tuned."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the split, of the order of examples and of dropout."""
    files: tuple[LabelledFile, ...] = Field(min_length=1, max_length=20)
    recipe: Recipe = Recipe()


class TrainingSpec(Plan):
    """The payload of a training job: a plan and the digest of the base model's weights.

    The same payload produces the same model.
    """

    base_weights_sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedClassifier:
    """The result of a training run: everything except the base model."""

    files: Mapping[str, bytes]
    """Files by name: model card, adapter with its settings, classifier settings, evaluation and recipe."""
    metrics: Mapping[str, object] = field(default_factory=dict)
    """Selected figures of the evaluation."""


class Training(Protocol):
    """The port through which a kind trains a model; inference engines are not involved."""

    def train_classifier(self, spec: TrainingSpec) -> TrainedClassifier:
        """Train the classifier and block until training has ended.

        Training continues from the last checkpoint of this job, whichever machine wrote it. Raises InputError
        for unusable data, DeadlineError, or the error that ends an abandoned job.
        """
        ...
