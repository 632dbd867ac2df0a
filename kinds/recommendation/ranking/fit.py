"""Fits the ranking model, which consists of the relations between items and their popularity, to all
histories, one block at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.linalg import lapack
from scipy.sparse.linalg import LinearOperator, eigsh

from jobs.errors import PermanentError
from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.ranking.arrays import pack_arrays, unpack_arrays
from kinds.recommendation.ranking.settings import RankingSettings

SECONDS_A_DAY = 86_400

_WEIGHT_STEPS = 4096
"""Users' weights are rounded to multiples of 1/4096, so that sums are exact in any order of the blocks."""
_EXACT_ITEMS = 4096
"""Number of items up to which sums have 64 bits; for more items, saving memory matters more."""
_CHUNK_ROWS = 256

Factors = npt.NDArray[np.float32]

POPULARITY_EXPONENT = 0.25
"""Co-occurrences are first divided by count ** 0.25 of both items. This is halfway to cosines, with which
rare items would count as much as all others. Of 0, 0.25 and 0.5 it was the best on MovieLens-100k."""
_DENSE_ITEMS = 200
"""Number of items up to which `eigh` computes all eigenvectors. For more items, the iterative `eigsh`
computes only the leading ones; their number must be smaller than that of the items."""

_KIND = "pressroom.item_model.1"


def places_of(block: UserBlock, place: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Return the position that `place` gives each of the block's items; -1 for an unknown item."""
    return np.array([place.get(item_id, -1) for item_id in block.item_ids], np.int64)


def latest_entries(
    block: UserBlock, columns: npt.NDArray[np.int64], max_user_items: int
) -> npt.NDArray[np.int64]:
    """Return the positions of each user's latest entries with a known item, in the order of the block."""
    users = np.repeat(np.arange(len(block.user_ids)), np.diff(block.indptr))
    known = np.flatnonzero(columns[block.items] >= 0) if len(block.items) else np.zeros(0, np.int64)
    counts = np.bincount(users[known], minlength=len(block.user_ids))
    if counts.max(initial=0) <= max_user_items:
        return known
    # Sorted by user, latest first; equal times keep the block's order, which is that of the item ids.
    order = known[np.lexsort((known, -block.times[known], users[known]))]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < max_user_items])


def history_matrix(
    block: UserBlock,
    place: Mapping[str, int],
    *,
    max_user_items: int,
    half_life_days: float | None = None,
    last_event_at: int = 0,
) -> sp.csr_matrix:
    """Return a float32 matrix (users, len(place)) that is 1 for each of the latest entries of a user.

    With a half-life, old entries count less. Their age is counted from `last_event_at`, the time of the log's
    last event, so that a history has the same weights on any day.
    """
    columns = places_of(block, place)
    kept = latest_entries(block, columns, max_user_items)
    values = np.ones(len(kept), np.float32)
    if half_life_days is not None:
        age = np.maximum(last_event_at - block.times[kept], 0) / SECONDS_A_DAY
        values = np.exp2(-age / half_life_days).astype(np.float32)
    indptr = np.searchsorted(kept, block.indptr)
    shape = (len(block.user_ids), len(place))
    matrix = sp.csr_matrix((values, columns[block.items[kept]], indptr), shape)
    matrix.sort_indices()
    return matrix


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
        """Add a matrix (users, items) of ones. Time and memory grow with the squares of the rows' lengths."""
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
        """Return the factor that scales sums to the size of counts, so that one ridge suits all exponents."""
        mean = self._heaviness / max(self._num_users, 1)
        return float(mean**self._user_exponent)


def coefficients(together: CoOccurrence, settings: RankingSettings) -> sp.csr_matrix:
    """Return what an item of a history (row) adds to the score of another (column).

    This is EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", eq. 8): with P the
    inverse of the co-occurrence plus a ridge, B[h, i] = -P[h, i] / P[i, i]. The ridge proportional to the
    counts is that of dropout (Steck 2020, "Autoencoders that don't overfit towards the Identity", eq. 6).
    Overwrites `together`. Raises SingularError.
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
    """Keep the `num` entries of each row that are largest in absolute value; on a tie, the first ones.

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
    inverse, info = factor(matrix.T, lower=1, overwrite_a=1, clean=0)
    if info == 0:
        inverse, info = invert(inverse, lower=1, overwrite_c=1)
    if info != 0:
        raise SingularError("the regression of items on items has no solution; use a larger ease_lambda")
    # The lower half of the transpose is the upper half of the matrix.
    result = inverse.T
    for begin in range(0, len(matrix), _CHUNK_ROWS):
        end = min(begin + _CHUNK_ROWS, len(matrix))
        square = np.triu(result[begin:end, begin:end])
        matrix[begin:end, begin:end] = square + np.triu(square, 1).T
        matrix[begin:end, end:] = result[begin:end, end:]
        matrix[end:, begin:end] = result[begin:end, end:].T


def low_rank_factors(
    sums: npt.NDArray[np.floating], counts: npt.NDArray[np.float64], settings: RankingSettings
) -> tuple[Factors, Factors]:
    """Return the factors of histories and those of items, each of shape (items, rank).

    The low-rank part of an item's score is the sum of the history's rows of the first array, times the item's
    row of the second. This is the projection on the leading eigenvectors of the co-occurrences, weighted by
    popularity (Cremonesi et al. 2010, PureSVD, equation 7, which needs only a user's items; weighted as in
    Shen et al. 2021, GF-CF).
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
    # The start vector is fixed, because a random one would give different bytes each time.
    _, vectors = eigsh(operator, rank, v0=np.ones(num_items, sums.dtype), tol=1e-4)
    return np.asarray(vectors, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class FittedModel:
    """Relations between items by behaviour, and their popularity, which are stored as a resource."""

    item_ids: tuple[str, ...]
    """Sorted ids of the items in the catalogue that have at least one user."""
    num_users_of_item: npt.NDArray[np.int64]
    """(num_items,): number of users of each item."""
    coefficients: sp.csr_matrix
    """(num_items, num_items), float32: what the row's item in a history adds to the column's item's score."""
    history_factors: Factors
    """(num_items, rank): their sum over a history, times item_factors, is the low-rank part of the scores."""
    item_factors: Factors
    num_users: int
    num_entries: int
    """Number of entries of all histories, each cut to its latest entries."""
    last_event_at: int
    """Time of the last event in seconds since 1970 UTC, from which age is counted; 0 without times."""

    def to_bytes(self) -> bytes:
        """Return the model as bytes; equal models give equal bytes."""
        header = {
            "item_ids": self.item_ids,
            "num_users": self.num_users,
            "num_entries": self.num_entries,
            "last_event_at": self.last_event_at,
        }
        arrays = {
            "num_users_of_item": self.num_users_of_item.astype("<i8"),
            "indptr": self.coefficients.indptr.astype("<i8"),
            "indices": self.coefficients.indices.astype("<i4"),
            "values": self.coefficients.data.astype("<f4"),
            "history_factors": self.history_factors.astype("<f4"),
            "item_factors": self.item_factors.astype("<f4"),
        }
        return pack_arrays(_KIND, header, arrays)


def read_model_bytes(body: bytes) -> FittedModel:
    """Return the model. Raises ArraysUnreadableError."""
    header, arrays = unpack_arrays(_KIND, body)
    ids = tuple(header["item_ids"])
    parts = (arrays["values"], arrays["indices"], arrays["indptr"])
    return FittedModel(
        ids,
        arrays["num_users_of_item"],
        sp.csr_matrix(parts, (len(ids), len(ids))),
        arrays["history_factors"],
        arrays["item_factors"],
        header["num_users"],
        header["num_entries"],
        header["last_event_at"],
    )


@dataclass(slots=True)
class _Counts:
    users: npt.NDArray[np.int64]
    """Number of users of each item, in the order of the catalogue."""
    num_users: int = 0
    num_entries: int = 0
    last_event_at: int = 0


def fit(
    blocks: Iterable[UserBlock], settings: RankingSettings, catalogue_ids: Collection[str]
) -> FittedModel:
    """Fit the model on all blocks, which are read twice, one at a time.

    `blocks` is a collection, or an object whose `__iter__` starts over. The result depends neither on the
    clock nor on the order and number of the blocks. A square matrix of the fitted items is held in memory.
    Raises SingularError, and TypeError if `blocks` is an iterator, which ends after one pass.
    """
    if isinstance(blocks, Iterator):
        raise TypeError("blocks are read twice: pass a collection, not an iterator")
    ids = tuple(sorted(catalogue_ids))
    counts = _count(blocks, settings, ids)
    seen = np.flatnonzero(counts.users)
    # The most popular items; equally popular ones are ordered by id.
    head = seen[np.argsort(-counts.users[seen], kind="stable")][: settings.max_fitted_items]
    fitted = {ids[number]: place for place, number in enumerate(np.sort(head).tolist())}
    together = CoOccurrence(len(fitted), settings.user_exponent)
    for block in blocks:
        together.add(history_matrix(block, fitted, max_user_items=settings.max_user_items))
    # This comes before the coefficients, whose computation overwrites the sums.
    factors = low_rank_factors(together.sums, counts.users[np.sort(head)].astype(np.float64), settings)
    is_fitted = np.isin(seen, head)
    return FittedModel(
        item_ids=tuple(ids[number] for number in seen.tolist()),
        num_users_of_item=counts.users[seen],
        coefficients=_spread(coefficients(together, settings), is_fitted),
        history_factors=_spread_rows(factors[0], is_fitted),
        item_factors=_spread_rows(factors[1], is_fitted),
        num_users=counts.num_users,
        num_entries=counts.num_entries,
        last_event_at=counts.last_event_at,
    )


def _count(blocks: Iterable[UserBlock], settings: RankingSettings, ids: tuple[str, ...]) -> _Counts:
    place = {item_id: number for number, item_id in enumerate(ids)}
    counts = _Counts(np.zeros(len(ids), np.int64))
    for block in blocks:
        columns = places_of(block, place)
        kept = latest_entries(block, columns, settings.max_user_items)
        counts.users += np.bincount(columns[block.items[kept]], minlength=len(ids))
        counts.num_users += int(np.count_nonzero(np.diff(np.searchsorted(kept, block.indptr))))
        counts.num_entries += len(kept)
        counts.last_event_at = max(counts.last_event_at, int(block.times[kept].max(initial=0)))
    return counts


def _spread(matrix: sp.csr_matrix, is_fitted: npt.NDArray[np.bool_]) -> sp.csr_matrix:
    """Expand the matrix of the fitted items to all items that have a user."""
    if is_fitted.all():
        return matrix
    places = np.flatnonzero(is_fitted)
    coo = matrix.tocoo()
    shape = (len(is_fitted), len(is_fitted))
    return sp.csr_matrix((coo.data, (places[coo.row], places[coo.col])), shape)


def _spread_rows(rows: Factors, is_fitted: npt.NDArray[np.bool_]) -> Factors:
    every = np.zeros((len(is_fitted), rows.shape[1]), np.float32)
    every[is_fitted] = rows
    return every
