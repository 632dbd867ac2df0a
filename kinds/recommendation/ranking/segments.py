"""Assigns users to segments, which share a text if texts are written per segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse as sp

NEW = "new"
"""Segment of users without a history."""
OTHER = "other"
"""Segment of users whose items have no category."""


def segment_of(weights: Mapping[str | None, float]) -> str:
    """Return the category with most weight, given the weight of each; of equal ones the first by name.

    >>> segment_of({"tents": 2.0, "boots": 2.0, None: 9.0}), segment_of({None: 1.0}), segment_of({})
    ('boots', 'other', 'new')
    """
    if not weights:
        return NEW
    named = [(-weight, category) for category, weight in weights.items() if category]
    return min(named)[1] if named else OTHER


def segments_of(histories: sp.csr_matrix, categories: Sequence[str | None]) -> list[str]:
    """Return the segment of each row of histories (users, items), given the category of each item."""
    names = sorted({category for category in categories if category})
    code = {name: column for column, name in enumerate(names)}
    codes = np.array([code.get(category or "", len(names)) for category in categories], np.int64)
    named = [*names, None]
    segments = []
    for begin, end in zip(histories.indptr[:-1], histories.indptr[1:], strict=True):
        sums = np.bincount(codes[histories.indices[begin:end]], histories.data[begin:end])
        present = np.flatnonzero(sums)
        segments.append(segment_of({named[place]: float(sums[place]) for place in present.tolist()}))
    return segments
