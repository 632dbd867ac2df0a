"""Decides links by embeddings: for topics that no alias names, and for names that several entities share.

All vectors have length 1, so that a dot product is a cosine. Thresholds are those of MiniLM
(all-minilm-l6-v2), measured by benchmarks/linking.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

MIN_TOPIC_SIMILARITY = 0.45
"""Minimum cosine of a topic. For eight topics in 5,000 headlines, 83% of those above it contain the topic's
own name, and half of the rest are about it; between 0.40 and 0.45 a seventh of the rest are."""
MIN_ENTITY_SIMILARITY = 0.3
"""Minimum cosine for a common word: 78% of posts on Apple and 97% of those on Ford lie above it, and 5% of
headlines on price targets with a description of the shops."""
MIN_MARGIN = 0.15
"""Minimum difference between two owners of one name: with it 87% of decisions are right and 94% of mentions
are left undecided. At 0.05 only 60% are right, since most headlines do not tell what a company does."""


def similarities(document_vector: Vector, vectors: Mapping[str, Vector]) -> dict[str, float]:
    """Return the cosines of a document's vector, shape (width,), with other vectors of the same shape."""
    if not vectors:
        return {}
    products = np.stack(list(vectors.values())) @ document_vector
    return dict(zip(vectors, products.tolist(), strict=True))


def topic_links(
    document_vector: Vector,
    topic_vectors: Mapping[str, Vector],
    *,
    min_similarity: float = MIN_TOPIC_SIMILARITY,
) -> dict[str, float]:
    """Return the topics whose description is near the document, with their cosines, nearest first."""
    found = similarities(document_vector, topic_vectors)
    ranked = sorted(found.items(), key=lambda item: item[1], reverse=True)
    return {topic: cosine for topic, cosine in ranked if cosine >= min_similarity}


def nearest(
    cosines: Mapping[str, float],
    *,
    min_similarity: float = MIN_ENTITY_SIMILARITY,
    min_margin: float = MIN_MARGIN,
) -> str | None:
    """Return the key of the largest cosine; None if it is too small or another is about as large.

    >>> nearest({"apple": 0.4, "apple-bank": 0.1}), nearest({"apple": 0.4, "apple-bank": 0.39})
    ('apple', None)
    """
    ranked = sorted(cosines.items(), key=lambda item: item[1], reverse=True)
    if not ranked or ranked[0][1] < min_similarity:
        return None
    if len(ranked) > 1 and ranked[0][1] - ranked[1][1] < min_margin:
        return None
    return ranked[0][0]


def resolve_ambiguous(document_vector: Vector, entity_vectors: Mapping[str, Vector]) -> str | None:
    """Return the entity whose description is nearest to the document; None if none is near or two tie."""
    return nearest(similarities(document_vector, entity_vectors))
