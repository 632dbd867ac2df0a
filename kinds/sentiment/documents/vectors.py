"""What embeddings decide about links: topics that no alias names, and names that several entities have.

All vectors have length 1, so that a dot product is a cosine. Thresholds are those of MiniLM
(all-minilm-l6-v2), measured by benchmarks/linking.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

MIN_TOPIC_SIMILARITY = 0.45
"""Of eight topics in 5,000 headlines, 83% of what lies above has the topic's own name, and half of the rest
is about it; between 0.40 and 0.45 a seventh of the rest is."""
MIN_ENTITY_SIMILARITY = 0.3
"""For a common word: 78% of posts on Apple and 97% of those on Ford lie above, and 5% of headlines on price
targets with a description of the shops."""
MIN_MARGIN = 0.15
"""Between two owners of one name: then 87% are right, and 94% are left undecided. At 0.05 only 60% are right:
most headlines say nothing of what a company does."""


def similarities(document_vector: Vector, vectors: Mapping[str, Vector]) -> dict[str, float]:
    """The cosine of a document, shape (width,), with each of the vectors, shape (width,) too."""
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
    """Topics whose description the document is near enough to, with their cosines, nearest first."""
    found = similarities(document_vector, topic_vectors)
    ranked = sorted(found.items(), key=lambda item: item[1], reverse=True)
    return {topic: cosine for topic, cosine in ranked if cosine >= min_similarity}


def nearest(
    cosines: Mapping[str, float],
    *,
    min_similarity: float = MIN_ENTITY_SIMILARITY,
    min_margin: float = MIN_MARGIN,
) -> str | None:
    """The name of the largest cosine; None if it is too small, or another is nearly as large.

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
    """The entity whose description the document is nearest to; None if none is near, or two alike."""
    return nearest(similarities(document_vector, entity_vectors))
