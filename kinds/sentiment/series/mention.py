"""A mention: one document's mood towards one entity, its novelty, and how it is counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

NUM_PERMUTATIONS = 64
"""Hash values per MinHash signature; the standard error of a similarity is at most 1/16 (Broder 1997)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """One document and one entity that it mentions; a document about three companies has three mentions."""

    document_id: str
    entity_id: str
    published_at: datetime
    """Time of publication in UTC."""
    relevance: int
    """How much the document is about the entity, 0 to 100."""
    topic: str | None
    """Id of the topic of the watch list that the document is about, if any."""
    p_negative: float
    p_neutral: float
    p_positive: float
    """Calibrated probabilities; the three sum to 1."""
    sentence: str
    """The sentence that determines the mood, as written in the document."""
    title: str
    source: str
    signature: bytes
    """MinHash of the document's text: NUM_PERMUTATIONS little-endian 32-bit integers, see novelty.py."""

    @property
    def score(self) -> float:
        """Score in [-1, 1]: P(positive) - P(negative)."""
        return self.p_positive - self.p_negative


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """Position of a mention in the chain of documents that report the same news about the entity."""

    document_id: str
    entity_id: str
    number: int
    """Position in the chain: 1 for the first report, 2 for the first follow-up, and so on."""
    first_id: str
    """Id of the chain's first document, which may be the document itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedDocument:
    """A document as counted in the windows of an entity."""

    document_id: str
    sha256: str
    """Digest of the document's content, see jobs.documents.document.document_digest."""
    published_at: datetime
    """Time of publication in UTC."""
    relevance: int
    p_negative: float
    p_neutral: float
    p_positive: float
    novelty: int
    """1 for a first report, higher for a follow-up; see kinds.sentiment.series.mention.Novelty."""
    first_id: str

    @property
    def score(self) -> float:
        """Score in [-1, 1]: P(positive) - P(negative)."""
        return self.p_positive - self.p_negative

    @property
    def label(self) -> int:
        """Most likely class: 0 negative, 1 neutral, 2 positive; on a tie, the one with the lowest number."""
        probabilities = (self.p_negative, self.p_neutral, self.p_positive)
        return probabilities.index(max(probabilities))
