"""A mention: what one document says about one entity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

NUM_PERMUTATIONS = 64
"""Of a signature's MinHash: the standard error of an estimated similarity is at most 1/16 (Broder 1997)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """One document and one entity of it. A document about three companies has three."""

    document_id: str
    entity_id: str
    published_at: datetime
    """UTC."""
    relevance: int
    """0 to 100: how much the document is about the entity."""
    topic: str | None
    """Id of the watch list's topic that the document is about, if any."""
    p_negative: float
    p_neutral: float
    p_positive: float
    """Calibrated; the three sum to 1."""
    sentence: str
    """The sentence that carries it, as the document has it."""
    title: str
    source: str
    signature: bytes
    """MinHash of the document's text: NUM_PERMUTATIONS little-endian 32-bit integers, see novelty.py."""

    @property
    def score(self) -> float:
        """In [-1, 1]: P(positive) - P(negative)."""
        return self.p_positive - self.p_negative


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """The place of a mention in the chain of documents that say the same about the entity."""

    document_id: str
    entity_id: str
    number: int
    """1 for the first report, 2 for the first follow-up, ..."""
    first_id: str
    """The chain's first document; the document itself if it is the first."""
