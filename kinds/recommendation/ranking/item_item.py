"""Derives relations between items from interactions, by sums over users, a ridge regression and cosines."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.linalg import lapack

from jobs.errors import PermanentError
from kinds.recommendation.ranking.settings import RankingSettings

_WEIGHT_STEPS = 4096
"""Users' weights are multiples of 1/4096, so that sums are exact and do not depend on the order of blocks."""
_EXACT_ITEMS = 4096
"""Number of items up to which sums have 64 bits; for more items, saving memory matters more."""
_CHUNK_ROWS = 256


class SingularError(PermanentError):
    """The regression has no solution because its ridge is too small."""

    code = "fit_singular"


class CoOccurrence:
    """Counts how often two items are in the same history: a square matrix that is filled block by block."""

    def __init__(self, num_items: int, user_exponent: float) -> None:
        dtype = np.float64 if num_items <= _EXACT_ITEMS else np.float32
        self.sums: npt.NDArray[np.floating] = np.zeros((num_items, num_items), dtype)
        self._user_exponent = user_exponent
        self._num_users = 0
        self._heaviness = 0.0

    def add(self, histories: sp.csr_matrix) -> None:
        """Add histories (users, items) of ones. Time and memory grow with the squares of their lengths."""
        lengths = np.diff(histories.indptr)
        lengths = lengths[lengths > 0]
        if not len(lengths):
            return
        weights = np.rint(lengths.astype(float) ** -self._user_exponent * _WEIGHT_STEPS) / _WEIGHT_STEPS
        weighted = sp.csr_matrix(
            (np.repeat(weights, lengths), histories.indices, histories.indptr), histories.shape
        )
        pairs = (histories.T.astype(np.float64) @ weighted).tocsr()
        for begin in range(0, pairs.shape[0], _CHUNK_ROWS):
            rows = pairs[begin : begin + _CHUNK_ROWS]
            at = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
            self.sums[begin : begin + _CHUNK_ROWS][at, rows.indices] += rows.data
        self._num_users += len(lengths)
        self._heaviness += float(lengths.sum())

    def scale(self) -> float:
        """Return the factor that scales sums to the size of counts, so that a ridge fits every exponent."""
        mean = self._heaviness / max(self._num_users, 1)
        return float(mean**self._user_exponent)


def coefficients(together: CoOccurrence, settings: RankingSettings) -> sp.csr_matrix:
    """Return what an item of a history (row) adds to the score of another (column); overwrites `together`.

    This is EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", eq. 8): with P the
    inverse of the co-occurrence plus a ridge, B[h, i] = -P[h, i] / P[i, i]. The ridge proportional to the
    counts is that of dropout (Steck 2020, "Autoencoders that don't overfit towards the Identity", eq. 6).
    Raises SingularError.
    """
    sums = together.sums
    if not len(sums):
        return sp.csr_matrix((0, 0), dtype=np.float32)
    sums *= together.scale()
    counts = sums.diagonal().astype(np.float64)
    before = sums.copy() if settings.knn_weight else None
    if settings.regression_weight:
        np.fill_diagonal(sums, counts * (1 + settings.ease_dropout) + settings.ease_lambda)
        _invert(sums)
    weights = -settings.regression_weight / sums.diagonal()
    chunks = []
    for begin in range(0, len(sums), _CHUNK_ROWS):
        rows = sums[begin : begin + _CHUNK_ROWS] * weights
        if before is not None:
            rows += settings.knn_weight * _cosines(before[begin : begin + _CHUNK_ROWS], counts, begin)
        rows[np.arange(len(rows)), np.arange(begin, begin + len(rows))] = 0
        chunks.append(largest(rows, settings.num_neighbours))
    return sp.vstack(chunks, "csr")


def _cosines(
    rows: npt.NDArray[np.floating], counts: npt.NDArray[np.float64], begin: int
) -> npt.NDArray[np.floating]:
    """Return the cosines between items as vectors of users (Sarwar et al. 2001, section 3.1.1)."""
    lengths = np.sqrt(np.maximum(counts, 1e-9))
    return rows / lengths[begin : begin + len(rows), None] / lengths


def largest(rows: npt.NDArray[np.floating], num: int) -> sp.csr_matrix:
    """Keep the `num` entries of each row that are largest in absolute value; of equal ones the first.

    Zeros are not stored.
    """
    rows = rows.astype(np.float32)
    amounts = np.abs(rows)
    width = rows.shape[1]
    if num < width:
        least = np.partition(amounts, width - num, axis=1)[:, width - num, None]
        is_above = amounts > least
        room = num - is_above.sum(axis=1, keepdims=True)
        is_edge = amounts == least
        kept = is_above | (is_edge & (np.cumsum(is_edge, axis=1) <= room))
        rows = np.where(kept, rows, np.float32(0))
    return sp.csr_matrix(rows)


def _invert(matrix: npt.NDArray[np.floating]) -> None:
    """Invert a symmetric positive definite matrix in place, by Cholesky. Raises SingularError."""
    factor, invert = (
        (lapack.dpotrf, lapack.dpotri) if matrix.dtype == np.float64 else (lapack.spotrf, lapack.spotri)
    )
    # The transpose of a symmetric matrix is the same matrix in Fortran order, on which LAPACK works in place.
    found, info = factor(matrix.T, lower=1, overwrite_a=1, clean=0)
    if info == 0:
        found, info = invert(found, lower=1, overwrite_c=1)
    if info != 0:
        raise SingularError("the regression of items on items has no solution: raise ease_lambda")
    # The lower half of the transpose is the upper half of the matrix.
    result = found.T
    for begin in range(0, len(matrix), _CHUNK_ROWS):
        end = min(begin + _CHUNK_ROWS, len(matrix))
        square = np.triu(result[begin:end, begin:end])
        matrix[begin:end, begin:end] = square + np.triu(square, 1).T
        matrix[begin:end, end:] = result[begin:end, end:]
        matrix[end:, begin:end] = result[begin:end, end:].T
