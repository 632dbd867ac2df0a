"""Finds documents that repeat what an earlier document has reported about the entity.

A follow-up is a mention that has a near-duplicate within the seven days before it. Its number is one more
than the number of these near-duplicates, and its first_id names the earliest of them. News feeds count linked
items in the same way, and also reach back at most seven days. A text that reports the opposite is not a
follow-up, however similar it is: "profit rises" and "profit falls" share nearly all their words. Chains are
not closed transitively: a mention's novelty depends only on the mentions within HISTORY before it, so a
series can be recomputed from any instant on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from kinds.sentiment.series.mention import NUM_PERMUTATIONS, Mention

HORIZON = timedelta(days=7)
"""Maximum time between a document and an earlier near-duplicate of it."""
HISTORY = 2 * HORIZON
"""Length of the past that determines a mention's novelty: its own block of seven days and the one before."""

MIN_MATCHES = 44
"""Minimum number of hash values that near-duplicates share. 44 of 64 is an estimated Jaccard similarity of
0.69. The standard error there is 0.06, so unrelated documents (below 0.3) are six standard errors away, and a
copy with a changed byline or ending (above 0.8) is two away. It is the lowest count for which the bands below
miss no pair: 20 differing values cannot touch all 21 bands."""
_NUM_BANDS, _BAND_ROWS = 21, 3
_MAX_COMPARED = 32
"""Maximum number of earlier groups that a group is compared with in each band. It bounds the work on a flood
of texts that share a template. Copies with the same signature form one group and are not limited."""
_OPPOSITE = 2
"""Distance between the labels negative and positive."""
_CHUNK = 1 << 15
_ODD = np.uint64(0x9E3779B97F4A7C15)
"""Odd multiplier that mixes the three values of a band into 64 bits. A collision costs only a needless
comparison."""

Int64s = NDArray[np.int64]


def by_time(mentions: Sequence[Mention]) -> list[Mention]:
    """Return the mentions sorted by time, then id, which is the order in which novelty is determined."""
    return sorted(mentions, key=lambda mention: (mention.published_at, mention.document_id))


def number_chains(epoch_us: Int64s, signatures: Sequence[bytes], labels: Int64s) -> tuple[Int64s, Int64s]:
    """Return, for each of N ordered mentions, its number and the index of the first document of its chain.

    `epoch_us` is ascending; `labels` are the most likely classes: 0 negative, 1 neutral, 2 positive. Raises
    ValueError for a signature of the wrong length.
    """
    if any(len(signature) != 4 * NUM_PERMUTATIONS for signature in signatures):
        raise ValueError(f"a signature is {NUM_PERMUTATIONS} little-endian 32-bit integers")
    num_mentions = len(signatures)
    positions = np.arange(num_mentions)
    if num_mentions < 2:
        return np.ones(num_mentions, np.int64), positions
    hashes = np.frombuffer(b"".join(signatures), "<u4").reshape(num_mentions, NUM_PERMUTATIONS)
    horizon_us = int(HORIZON.total_seconds()) * 1_000_000
    group_of, leaders = _groups(hashes, epoch_us // horizon_us, labels)
    pairs = _near_pairs(hashes[leaders], (epoch_us // horizon_us)[leaders])
    pairs = pairs[np.abs(labels[leaders][pairs[:, 0]] - labels[leaders][pairs[:, 1]]) < _OPPOSITE]
    oldest = np.searchsorted(epoch_us, epoch_us - horizon_us)
    return _count(group_of, len(leaders), pairs, oldest)


def _groups(hashes: NDArray[np.uint32], blocks: Int64s, labels: Int64s) -> tuple[Int64s, Int64s]:
    """Group mentions of the same block of seven days with equal signatures and labels.

    Returns each mention's group and each group's first mention. Groups are numbered in the order of their
    first mentions, so that their order does not depend on later mentions.
    """
    kinds = np.stack([blocks, labels], axis=1).astype("<i8").view("<u4")
    rows = np.concatenate([kinds, hashes], axis=1)
    keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * 4))).ravel()
    _, leaders, inverse = np.unique(keys, return_index=True, return_inverse=True)
    by_time = np.argsort(leaders)
    rank = np.empty_like(by_time)
    rank[by_time] = np.arange(len(by_time))
    return rank[inverse.ravel()], leaders[by_time]


def _near_pairs(hashes: NDArray[np.uint32], blocks: Int64s) -> Int64s:
    """Return pairs (earlier group, later group) that share at least MIN_MATCHES values, shape (P, 2).

    The groups of a pair are in the same block or in consecutive ones.
    """
    num_groups = len(hashes)
    pairs = [np.repeat(np.arange(num_groups), 2).reshape(num_groups, 2)]
    if len(blocks):
        blocks = blocks - blocks[0]
    for band in range(_NUM_BANDS):
        first, second, third = hashes[:, band * _BAND_ROWS : (band + 1) * _BAND_ROWS].T.astype(np.uint64)
        _, bucket = np.unique((first << 32 | second) * _ODD + third, return_inverse=True)
        stride = int(blocks[-1]) + 2
        keys = bucket * stride + blocks + 1
        in_bucket = np.argsort(keys, kind="stable")
        keys = keys[in_bucket]
        places = np.arange(num_groups)
        # Block 0 has no predecessor. The stride keeps the key before it unused, so that a search for the
        # preceding block never enters another bucket.
        begin = np.maximum(np.searchsorted(keys, keys - 1), places - _MAX_COMPARED)
        lengths = places - begin
        later = np.repeat(places, lengths)
        earlier = np.arange(len(later)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + begin[later]
        pairs.append(_verified(hashes, in_bucket[earlier], in_bucket[later]))
    return np.unique(np.concatenate(pairs), axis=0)


def _verified(hashes: NDArray[np.uint32], earlier: Int64s, later: Int64s) -> Int64s:
    near = [np.empty((0, 2), np.int64)]
    for begin in range(0, len(later), _CHUNK):
        left, right = earlier[begin : begin + _CHUNK], later[begin : begin + _CHUNK]
        matches = np.count_nonzero(hashes[left] == hashes[right], axis=1) >= MIN_MATCHES
        near.append(np.stack([left[matches], right[matches]], axis=1))
    return np.concatenate(near)


def _count(group_of: Int64s, num_groups: int, pairs: Int64s, oldest: Int64s) -> tuple[Int64s, Int64s]:
    """Return, for each mention, its number and the first mention of its chain.

    The number is 1 plus the number of members of near groups in [oldest, mention). The first mention is the
    earliest of these members, or the mention itself if there are none.
    """
    num_mentions = len(group_of)
    members = np.sort(group_of * num_mentions + np.arange(num_mentions))
    sizes = np.bincount(group_of, minlength=num_groups)
    begins = np.cumsum(sizes) - sizes
    others = np.concatenate([pairs, pairs[pairs[:, 0] != pairs[:, 1]][:, ::-1]])
    mine, near = others[:, 0], others[:, 1]
    lengths = sizes[mine]
    pair = np.repeat(np.arange(len(others)), lengths)
    offset = np.arange(len(pair)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    mention = members[begins[mine[pair]] + offset] % num_mentions
    base = near[pair] * num_mentions
    low = np.searchsorted(members, base + oldest[mention])
    high = np.searchsorted(members, base + mention)
    numbers = np.ones(num_mentions, np.int64)
    np.add.at(numbers, mention, high - low)
    firsts = np.arange(num_mentions)
    some = high > low
    np.minimum.at(firsts, mention[some], members[low[some]] % num_mentions)
    return numbers, firsts
