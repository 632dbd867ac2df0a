"""Low-rank part of ranking: a few directions that many items share, which rare pairs of items cannot show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator, eigsh

from kinds.recommendation.ranking.settings import RankingSettings

Factors = npt.NDArray[np.float32]

POPULARITY_EXPONENT = 0.25
"""Co-occurrences are first divided by count ** 0.25 of both items. This is halfway to cosines, with which
rare items would count as much as all others. Of 0, 0.25 and 0.5 it was the best on MovieLens-100k."""
_DENSE_ITEMS = 200
"""Number of items up to which all directions are computed; iterations need fewer directions than items."""


def low_rank_factors(
    sums: npt.NDArray[np.floating], counts: npt.NDArray[np.float64], settings: RankingSettings
) -> tuple[Factors, Factors]:
    """Return two arrays (items, rank): a history's sum over the first times the second is this part's score.

    This is the projection on the leading eigenvectors of the co-occurrences, weighted by popularity
    (Cremonesi et al. 2010, PureSVD, equation 7, which needs only a user's items; weighted as in Shen et al.
    2021, GF-CF).
    """
    num_items = len(sums)
    rank = min(settings.rank, num_items)
    if not settings.low_rank_weight or not rank:
        return np.zeros((num_items, 0), np.float32), np.zeros((num_items, 0), np.float32)
    # Counts are divided by their mean, so that the weight has the same effect for a log ten times as long.
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
    # The start vector is fixed, because a random one would give other bytes each time.
    _, vectors = eigsh(operator, rank, v0=np.ones(num_items, sums.dtype), tol=1e-4)
    return np.asarray(vectors, np.float64)
