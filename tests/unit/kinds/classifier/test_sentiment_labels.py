"""The kind that classifies blocks of texts: order, spelling, artifact."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from jobs.inference import LabelProbabilities, TextPair
from jobs.kind import Context
from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.sentiment_labels import LabelBlock, LabelSettings, SentimentLabelsKind, text_digest

ANSWERS = {
    "up": LabelProbabilities(LABELS, (0.1, 0.2, 0.7)),
    "down": LabelProbabilities(LABELS, (0.8, 0.15, 0.05)),
}


class Inference:
    """Answers by the first word; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[TextPair] = []
        self.calibrated: bool | None = None

    def classify(
        self, pairs: Sequence[TextPair], *, calibrated: bool = True
    ) -> tuple[LabelProbabilities, ...]:
        self.asked += pairs
        self.calibrated = calibrated
        return tuple(ANSWERS[pair.text.split()[0]] for pair in pairs)


def run(
    texts: list[dict[str, str]], **settings: object
) -> tuple[list[dict[str, Any]], Inference, dict[str, object]]:
    inference = Inference()
    context = cast(Context, SimpleNamespace(inference=inference, settings=settings))
    result = SentimentLabelsKind().run(LabelBlock.model_validate({"texts": texts}), context)
    (artifact,) = result.artifacts
    assert result.template is None
    return [json.loads(line) for line in artifact.body.splitlines()], inference, dict(result.metrics)


def test_each_text_gets_its_own_answer_in_order() -> None:
    lines, _, metrics = run([{"id": "a", "text": "down 1"}, {"id": "b", "text": "up 2"}])
    assert [(line["id"], line["label"], line["positive"]) for line in lines] == [
        ("a", "negative", 0.05),
        ("b", "positive", 0.7),
    ]
    assert (metrics["num_texts"], metrics["num_negative"], metrics["num_neutral"]) == (2, 1, 0)


def test_a_batch_says_whether_it_asks_for_calibrated_answers() -> None:
    assert run([{"id": "a", "text": "up"}])[1].calibrated is True
    assert run([{"id": "a", "text": "up"}], calibrated=False)[1].calibrated is False


def test_how_sure_a_model_is_survives_its_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    sure = LabelProbabilities(LABELS, (1.23456789e-12, 2e-30, 1.0))
    monkeypatch.setitem(ANSWERS, "up", sure)
    (line,), _, _ = run([{"id": "a", "text": "up"}])
    assert (line["negative"], line["neutral"], line["positive"]) == (1.234568e-12, 2e-30, 1.0)


def test_the_model_reads_the_text_as_it_was_taught_and_the_digest_is_of_the_text_as_it_came() -> None:
    text = "up $AAPL https://t.co/x"
    (line,), inference, _ = run([{"id": "a", "text": text, "target": "$AAPL"}])
    assert inference.asked == [TextPair("up AAPL", "AAPL")]
    assert line["sha256"] == text_digest(text, "$AAPL") != text_digest(text, "AAPL")


def test_it_asks_the_batchs_model_alone_and_refuses_an_empty_block() -> None:
    kind = SentimentLabelsKind()
    assert kind.models("m", LabelSettings(), "label") == ("m",)
    with pytest.raises(ValidationError):
        LabelBlock.model_validate({"texts": []})
