"""The kind that returns the probability of each class for each text, without history or entities.

It is used by evaluations and calibrations, and by other programs.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict

from pydantic import BaseModel, ConfigDict, Field

from jobs.inference import LabelProbabilities, TextPair, classified
from jobs.kind import Artifact, Context, Kind, Result, Stage
from jobs.provenance import sha256_hex
from jobs.rejection import REFUSED, Refusal
from jobs.text.plain import normalise
from kinds.classifier.labelled_texts import LABELS

BLOCK_TEXTS = 250
"""Number of texts per job: enough that sorting them by length saves padding, and few enough that a job takes
half a second to a few seconds."""

LABELS_FILE = "labels.jsonl"


class LabelText(BaseModel):
    """One text to classify."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    id: str = Field(min_length=1, max_length=200)
    text: str
    target: str = ""
    """Entity that the sentiment is about; empty if the sentiment is about the text as a whole."""


class LabelBlock(BaseModel):
    """The payload of a job: texts that are classified together."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    texts: tuple[LabelText, ...] = Field(min_length=1, max_length=10_000)


class LabelSettings(BaseModel):
    """Settings of a batch; everything else is defined by the model."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    calibrated: bool = True
    """Whether answers use the calibration that is stored with the model, or only the model's own files."""
    installed_sha256: str = ""
    """Digest of the model's files when the batch was made; empty unless the answers are valid only for these
    files."""


class LabelPrediction(BaseModel):
    """One line of the artifact: a text's label and the probability of each class."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    id: str
    sha256: str
    """Digest of text and target as submitted, joined by NUL."""
    label: str
    """The class with the highest probability."""
    negative: float
    neutral: float
    positive: float


class SentimentLabelsKind(Kind[LabelBlock]):
    """Computes the probability of every label for each text."""

    name = "sentiment_labels"
    version = "2"
    intake = None
    stages = (Stage("classify"),)
    payload_type = LabelBlock
    settings_type = LabelSettings

    def run(self, payload: LabelBlock, context: Context) -> Result:
        """Classify the block. Raises the errors of `Inference.classify`."""
        pairs = [TextPair(normalise(each.text), normalise(each.target)) for each in payload.texts]
        settings = LabelSettings.model_validate(context.settings)
        answers = classified(pairs, context.inference, calibrated=settings.calibrated)
        answered = list(zip(payload.texts, answers, strict=True))
        predictions = [
            _prediction(text, answer) for text, answer in answered if not isinstance(answer, Refusal)
        ]
        refused = {text.id: asdict(answer) for text, answer in answered if isinstance(answer, Refusal)}
        body = "".join(json.dumps(each.model_dump(), ensure_ascii=False) + "\n" for each in predictions)
        counts = Counter(each.label for each in predictions)
        return Result(
            artifacts=(Artifact(name=LABELS_FILE, media_type="application/jsonl", body=body.encode()),),
            metrics={
                "num_texts": len(predictions),
                **{f"num_{label}": counts[label] for label in LABELS},
                **({REFUSED: refused} if refused else {}),
            },
        )


def text_digest(text: str, target: str) -> str:
    """Return the SHA-256 of text and target, joined by NUL, by which an answer is matched to its text."""
    return sha256_hex(f"{text}\0{target}".encode())


def _prediction(text: LabelText, answer: LabelProbabilities) -> LabelPrediction:
    values = dict(zip(LABELS, answer.of(LABELS), strict=True))
    # Significant digits are kept, not decimals, because a calibration needs the small values of an
    # overconfident model.
    rounded = {label: float(f"{value:.7g}") for label, value in values.items()}
    return LabelPrediction(
        id=text.id,
        sha256=text_digest(text.text, text.target),
        label=max(values, key=lambda label: values[label]),
        **rounded,
    )
