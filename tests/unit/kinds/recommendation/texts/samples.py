"""Rows, text requests, and a model that gives prepared answers."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.inference import (
    Completion,
    Embedding,
    FinishReason,
    LabelProbabilities,
    Prompt,
    RawPrompt,
    Sampling,
    TextPair,
    Usage,
)
from kinds.recommendation.texts.checks import TextCheck
from kinds.recommendation.texts.facts import read_facts
from kinds.recommendation.texts.text import FeaturedItem, TextPolicy, TextRequest

POLICY = TextPolicy()

TENT: dict[str, object] = {
    "title": "Trail Tent",
    "category": "Tents",
    "brand": "Alder",
    "material": "nylon",
    "colour": "moss green",
    "price": 199.0,
    "currency": "EUR",
}
MUG: dict[str, object] = {
    "title": "Kestrel Mug",
    "category": "Mugs",
    "material": "steel",
    "colour": "red",
    "price": 12.5,
    "currency": "EUR",
}


def request_of(*rows: dict[str, object], because: str | None = None) -> TextRequest:
    items = tuple(FeaturedItem(item_id=f"i{number}", row=row) for number, row in enumerate(rows))
    return TextRequest(audience="segment:all", items=items, because=because)


def check_of(*rows: dict[str, object], because: str | None = None, policy: TextPolicy = POLICY) -> TextCheck:
    return TextCheck(read_facts(request_of(*rows, because=because), policy), policy.forbidden)


class PreparedModel:
    """Gives its answers in order, the last one repeatedly, and records the calls; implements Inference."""

    def __init__(self, *answers: str, finish_reason: FinishReason = FinishReason.STOP) -> None:
        self._answers = answers
        self._finish_reason = finish_reason
        self.calls: list[tuple[Prompt, Sampling]] = []

    def generate(
        self, prompt: Prompt | RawPrompt, sampling: Sampling, *, model: str | None = None
    ) -> Completion:
        assert isinstance(prompt, Prompt)
        text = self._answers[min(len(self.calls), len(self._answers) - 1)]
        self.calls.append((prompt, sampling))
        cut = next((text.index(stop) for stop in sampling.stop if stop in text), len(text))
        return Completion(
            text=text[:cut], token_ids=(1,), finish_reason=self._finish_reason, usage=Usage(1, 0, 1)
        )

    def classify(
        self, pairs: Sequence[TextPair], *, model: str | None = None, calibrated: bool = True
    ) -> tuple[LabelProbabilities, ...]:
        raise NotImplementedError

    def model_sha256(self, *, model: str | None = None) -> str:
        raise NotImplementedError

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> tuple[tuple[float, ...], ...]:
        raise NotImplementedError

    def embeddings(self, texts: Sequence[str], *, model: str | None = None) -> tuple[Embedding, ...]:
        raise NotImplementedError
