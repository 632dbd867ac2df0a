"""The documents that a window counts, and the sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kinds.sentiment.series.window import SCORE_UNIT, WindowSums


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedDocument:
    """A document as counted in the windows of an entity."""

    document_id: str
    sha256: str
    """Digest of its content, see jobs.documents.digest.document_digest."""
    published_at: datetime
    """UTC."""
    relevance: int
    p_negative: float
    p_neutral: float
    p_positive: float
    novelty: int
    """1 for a first report, higher for a follow-up; see kinds.sentiment.series.mention.Novelty."""
    first_id: str

    @property
    def score(self) -> float:
        """In [-1, 1]: P(positive) - P(negative)."""
        return self.p_positive - self.p_negative

    @property
    def label(self) -> int:
        """Most likely class: 0 negative, 1 neutral, 2 positive; the first of equals."""
        probabilities = (self.p_negative, self.p_neutral, self.p_positive)
        return probabilities.index(max(probabilities))


def sums_of(documents: Sequence[CountedDocument], starts_at: datetime) -> WindowSums:
    """Return the sums of the window at `starts_at` with these documents; counts.count gives the same."""
    first = [document for document in documents if document.novelty == 1]
    weights = [max(document.relevance, 1) for document in first]
    labels = [document.label for document in first]
    return WindowSums(
        starts_at=starts_at,
        num_documents=len(first),
        num_followups=len(documents) - len(first),
        num_positive=labels.count(2),
        num_neutral=labels.count(1),
        num_negative=labels.count(0),
        weight=sum(weights),
        weight_squared=sum(weight * weight for weight in weights),
        weighted_score=sum(
            weight * round(document.score / SCORE_UNIT)
            for weight, document in zip(weights, first, strict=True)
        ),
    )
