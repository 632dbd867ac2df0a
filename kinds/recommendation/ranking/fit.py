"""Fits the ranking model to all histories, block by block: relations between items, and their popularity."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.ranking.arrays import pack_arrays, unpack_arrays
from kinds.recommendation.ranking.histories import history_matrix, latest_entries, places_of
from kinds.recommendation.ranking.item_item import CoOccurrence, coefficients
from kinds.recommendation.ranking.low_rank import Factors, low_rank_factors
from kinds.recommendation.ranking.settings import RankingSettings

_KIND = "pressroom.item_model.1"


@dataclass(frozen=True, slots=True, eq=False)
class FittedModel:
    """What ranking knows about behaviour. It is stored as a resource and is a parent of every list."""

    item_ids: tuple[str, ...]
    """Sorted ids of the items in the catalogue that have a user."""
    num_users_of_item: npt.NDArray[np.int64]
    """(num_items,)"""
    coefficients: sp.csr_matrix
    """(num_items, num_items), float32: what the row's item in a history adds to the score of the column's."""
    history_factors: Factors
    """(num_items, rank): their sum over a history, times item_factors, is the low-rank part of the scores."""
    item_factors: Factors
    num_users: int
    num_entries: int
    """Entries of all histories after cutting."""
    last_event_at: int
    """Seconds since 1970 UTC, from which recency is counted; 0 if the log has no times."""

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
class _Counted:
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
    Raises SingularError, and TypeError for an iterator, which ends after one pass.
    """
    if isinstance(blocks, Iterator):
        raise TypeError("blocks are read twice: give a collection, not an iterator")
    ids = tuple(sorted(catalogue_ids))
    counted = _count(blocks, settings, ids)
    seen = np.flatnonzero(counted.users)
    # The most popular items; equally popular ones are ordered by id.
    head = seen[np.argsort(-counted.users[seen], kind="stable")][: settings.max_fitted_items]
    fitted = {ids[number]: place for place, number in enumerate(np.sort(head).tolist())}
    together = CoOccurrence(len(fitted), settings.user_exponent)
    for block in blocks:
        together.add(history_matrix(block, fitted, max_user_items=settings.max_user_items))
    # This comes before the coefficients, whose computation overwrites the sums.
    factors = low_rank_factors(together.sums, counted.users[np.sort(head)].astype(np.float64), settings)
    is_fitted = np.isin(seen, head)
    return FittedModel(
        item_ids=tuple(ids[number] for number in seen.tolist()),
        num_users_of_item=counted.users[seen],
        coefficients=_spread(coefficients(together, settings), is_fitted),
        history_factors=_spread_rows(factors[0], is_fitted),
        item_factors=_spread_rows(factors[1], is_fitted),
        num_users=counted.num_users,
        num_entries=counted.num_entries,
        last_event_at=counted.last_event_at,
    )


def _count(blocks: Iterable[UserBlock], settings: RankingSettings, ids: tuple[str, ...]) -> _Counted:
    place = {item_id: number for number, item_id in enumerate(ids)}
    counted = _Counted(np.zeros(len(ids), np.int64))
    for block in blocks:
        columns = places_of(block, place)
        kept = latest_entries(block, columns, settings.max_user_items)
        counted.users += np.bincount(columns[block.items[kept]], minlength=len(ids))
        counted.num_users += int(np.count_nonzero(np.diff(np.searchsorted(kept, block.indptr))))
        counted.num_entries += len(kept)
        counted.last_event_at = max(counted.last_event_at, int(block.times[kept].max(initial=0)))
    return counted


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
