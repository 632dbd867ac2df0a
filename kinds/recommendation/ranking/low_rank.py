"""What many items have in common, in a few directions: what single pairs of items are too few to show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator, eigsh

from kinds.recommendation.ranking.settings import RankingSettings

Factors = npt.NDArray[np.float32]

POPULARITY_EXPONENT = 0.25
"""Co-occurrences are divided by count ** 0.25 of both items before: halfway to cosines, in whose directions
seldom items would count as much as all others. Of 0, 0.25 and 0.5 the best on MovieLens-100k."""
_DENSE_ITEMS = 200
"""Up to so many, all directions are found at once; iterations need fewer directions than items."""


def low_rank_factors(
    sums: npt.NDArray[np.floating], counts: npt.NDArray[np.float64], settings: RankingSettings
) -> tuple[Factors, Factors]:
    """Two arrays (items, rank): a history's row sum of the first times the second is this part of its scores.

    The projection on the leading eigenvectors of the co-occurrences, weighted by popularity (Cremonesi et al.
    2010, PureSVD, equation 7, which needs a user's items alone; weighted as in Shen et al. 2021, GF-CF).
    """
    num_items = len(sums)
    rank = min(settings.rank, num_items)
    if not settings.low_rank_weight or not rank:
        return np.zeros((num_items, 0), np.float32), np.zeros((num_items, 0), np.float32)
    # Over the mean, so that the weight means the same for a log ten times as long.
    scale = (counts / counts.mean()) ** -POPULARITY_EXPONENT
    vectors = _leading(sums, scale, rank)
    left = settings.low_rank_weight * scale[:, None] * vectors
    return left.astype(np.float32), vectors.astype(np.float32)


def _leading(
    sums: npt.NDArray[np.floating], scale: npt.NDArray[np.float64], rank: int
) -> npt.NDArray[np.float64]:
    num_items = len(sums)
    if num_items <= max(_DENSE_ITEMS, 2 * rank):
        _, vectors = np.linalg.eigh(sums * scale[:, None] * scale)
        return np.asarray(vectors[:, -rank:])
    narrow = scale.astype(sums.dtype)

    def product(vector: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        return np.asarray(narrow * (sums @ (narrow * vector.ravel().astype(sums.dtype))))

    operator = LinearOperator((num_items, num_items), matvec=product, dtype=sums.dtype)
    # A start of its own for every run would end in other bytes each time.
    _, vectors = eigsh(operator, rank, v0=np.ones(num_items, sums.dtype), tol=1e-4)
    return np.asarray(vectors, np.float64)
