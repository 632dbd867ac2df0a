"""Turns events of users into histories, with one entry per user and item, and histories into blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.partitions import leading_bits, ordered
from kinds.recommendation.catalogue.robots import Robots, is_new


@dataclass(frozen=True, slots=True)
class Histories:
    """Users with their entries; users are ordered by id, and the entries of a user by item."""

    user_ids: pa.StringArray
    bits: npt.NDArray[np.int64]
    """(num_users,): the bits of each user's hash that determine the block."""
    indptr: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    """(num_entries,): positions in the ordered ids of the catalogue."""
    weights: npt.NDArray[np.float32]
    times: npt.NDArray[np.int64]
    is_purchase: npt.NDArray[np.bool_]
    num_duplicates: int = 0
    """Events dropped because user, item, kind, weight and time are equal; users who are cut do not count."""
    num_users_cut: int = 0
    num_events_cut: int = 0
    """Events dropped of users who are cut, including duplicates."""


def histories(
    events: pa.Table, *, is_purchase: npt.NDArray[np.bool_], max_events: int, robots: Robots
) -> Histories:
    """Return the histories of these events, whose order does not matter; `is_purchase` is by kind."""
    users, user = ordered(events["user"].combine_chunks())
    item, kind, weight, time = (events[name].to_numpy() for name in ("item", "kind", "weight", "time"))
    order = np.lexsort((kind, weight, time, item, user))
    order = order[is_new(*(values[order] for values in (user, item, time, weight, kind)))]
    latest = order[_latest(user[order], time[order], len(users), max_events)]
    num_read = np.bincount(user, minlength=len(users)) + robots.num_dropped(users)
    num_different = np.bincount(user[order], minlength=len(users))
    num_kept = np.bincount(user[latest], minlength=len(users))
    is_cut = (num_kept < num_different) | (robots.num_dropped(users) > 0)
    user, item, time, weight, kind = (values[latest] for values in (user, item, time, weight, kind))

    begins = np.flatnonzero(is_new(user, item))
    ends = np.append(begins, len(user))[1:]
    weights, bought = _sums(weight, begins), _any(is_purchase[kind] & (weight > 0), begins)
    # An item that was returned as often as it was bought shows no interest.
    stays = weights > 0
    num_entries = np.bincount(user[begins[stays]], minlength=len(users))
    indptr = np.zeros(len(users) + 1, dtype=np.int64)
    np.cumsum(num_entries, out=indptr[1:])
    made = Histories(
        user_ids=users,
        bits=leading_bits(users),
        indptr=indptr,
        items=item[begins[stays]],
        weights=weights[stays],
        times=time[ends[stays] - 1],
        is_purchase=bought[stays],
        num_duplicates=int((num_read - num_different)[~is_cut].sum()),
        num_users_cut=int(np.count_nonzero(is_cut)),
        num_events_cut=int((num_read - num_kept)[is_cut].sum()),
    )
    return made if num_entries.all() else _with_users(made, np.flatnonzero(num_entries))


def _with_users(of: Histories, users: npt.NDArray[np.int64]) -> Histories:
    """Return the given users only, with the counts of all users."""
    return replace(
        selected(of, users),
        num_duplicates=of.num_duplicates,
        num_users_cut=of.num_users_cut,
        num_events_cut=of.num_events_cut,
    )


def selected(of: Histories, users: npt.NDArray[np.int64]) -> Histories:
    """Return the given users in this order."""
    counts = np.diff(of.indptr)[users]
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    entries = np.repeat(of.indptr[users] - indptr[:-1], counts) + np.arange(indptr[-1])
    return Histories(
        user_ids=of.user_ids.take(pa.array(users)),
        bits=of.bits[users],
        indptr=indptr,
        items=of.items[entries],
        weights=of.weights[entries],
        times=of.times[entries],
        is_purchase=of.is_purchase[entries],
    )


def as_block(of: Histories, catalogue_ids: Sequence[str]) -> UserBlock:
    """Return the histories as a block, with the ids of its own items only so that others do not change it."""
    present, items = np.unique(of.items, return_inverse=True)
    return UserBlock(
        user_ids=tuple(of.user_ids.to_pylist()),
        item_ids=tuple(catalogue_ids[position] for position in present),
        indptr=of.indptr,
        items=items.astype(np.int32),
        weights=of.weights,
        times=of.times,
        is_purchase=of.is_purchase,
    )


def _latest(
    user: npt.NDArray[np.int32], time: npt.NDArray[np.int64], num_users: int, max_events: int
) -> npt.NDArray[np.bool_]:
    """Return which events are kept if each user keeps the latest ones.

    Events are ordered by user without ties; of those with equal times, the later ones are kept.
    """
    kept = np.ones(len(user), dtype=bool)
    counts = np.bincount(user, minlength=num_users)
    begins = np.concatenate([[0], np.cumsum(counts)])
    for each in np.flatnonzero(counts > max_events):
        events = slice(begins[each], begins[each + 1])
        earliest = np.argsort(time[events], kind="stable")[: counts[each] - max_events]
        kept[begins[each] + earliest] = False
    return kept


def _sums(weight: npt.NDArray[np.generic], begins: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    if not len(begins):
        return np.zeros(0, dtype=np.float32)
    # Summed in 64 bits and in a fixed order, as a sum in another order would give another digest.
    return np.add.reduceat(weight.astype(np.float64), begins).astype(np.float32)


def _any(flags: npt.NDArray[np.bool_], begins: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    if not len(begins):
        return np.zeros(0, dtype=np.bool_)
    found: npt.NDArray[np.bool_] = np.logical_or.reduceat(flags, begins)
    return found
