"""The results of ranking: a list of items for each user, with a reason for each item, and the file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

import pyarrow as pa
from pyarrow import parquet

from jobs.errors import PermanentError

_FORMAT = {b"pressroom": b"lists-1"}
"""Version of the format in the file's metadata, which is raised when columns change."""

_ITEM = pa.struct(
    [
        pa.field("item", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("because", pa.string()),
        pa.field("attribute", pa.string()),
        pa.field("share", pa.float64(), nullable=False),
    ]
)

_SCHEMA = pa.schema(
    [
        pa.field("user", pa.string(), nullable=False),
        pa.field("segment", pa.string(), nullable=False),
        pa.field("items", pa.list_(pa.field("element", _ITEM, nullable=False)), nullable=False),
    ],
    metadata=_FORMAT,
)


class ReasonKind(StrEnum):
    """Kind of a reason, which is the largest part of an item's score."""

    BEHAVIOUR = "behaviour"
    """Users who interacted with `because` also interacted with this item."""
    CONTENT = "content"
    """The item resembles `because` by text or by `attribute`."""
    POPULAR = "popular"
    """Many users interacted with the item; with the `attribute` "category", it is popular in its category."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Reason why an item is on a list, taken from the terms of its score."""

    kind: ReasonKind
    because: str | None = None
    """Id of the item in the user's history with the largest term; None for popularity."""
    attribute: str | None = None
    """Name of an attribute whose value both items share, or "category"."""
    share: float = 0.0
    """Share of the item's score that comes from the part that `kind` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedItem:
    """One entry of a user's list."""

    item_id: str
    score: float
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class UserList:
    """A user's list, of which the first `list_length` items are shown and the others are the reserve."""

    user_id: str
    segment: str
    """Group of users who can share a text; see `segment_of`."""
    items: Sequence[RankedItem]


NEW = "new"
"""Segment of users without a history."""
OTHER = "other"
"""Segment of users whose items have no category."""


def segment_of(weights: Mapping[str | None, float]) -> str:
    """Return the category with the largest weight; on a tie, the first by name.

    The result is NEW if there are no weights, and OTHER if none of them is that of a category.

    >>> segment_of({"tents": 2.0, "boots": 2.0, None: 9.0}), segment_of({None: 1.0}), segment_of({})
    ('boots', 'other', 'new')
    """
    if not weights:
        return NEW
    named = [(-weight, category) for category, weight in weights.items() if category]
    return min(named)[1] if named else OTHER


class ListsMalformedError(PermanentError):
    """The bytes do not contain the lists of a block in the current format."""

    code = "lists_malformed"


def lists_bytes(lists: Sequence[UserList]) -> bytes:
    """Return a Parquet file with a row for each user, in the given order."""
    ranked = [item for user_list in lists for item in user_list.items]
    columns = [
        [item.item_id for item in ranked],
        [item.score for item in ranked],
        [item.reason.kind.value for item in ranked],
        [item.reason.because for item in ranked],
        [item.reason.attribute for item in ranked],
        [item.reason.share for item in ranked],
    ]
    fields = list(_ITEM)
    structs = pa.StructArray.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)], fields=fields
    )
    offsets = pa.array(list(accumulate((len(user_list.items) for user_list in lists), initial=0)), pa.int32())
    table = pa.Table.from_arrays(
        [
            pa.array([user_list.user_id for user_list in lists], pa.string()),
            pa.array([user_list.segment for user_list in lists], pa.string()),
            pa.ListArray.from_arrays(offsets, structs, type=_SCHEMA.field("items").type),
        ],
        schema=_SCHEMA,
    )
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd", row_group_size=max(len(lists), 1))
    return bytes(sink.getvalue())


def read_lists_bytes(body: bytes) -> list[UserList]:
    """Return the lists in the order in which they were written. Raises ListsMalformedError."""
    try:
        table = parquet.read_table(pa.BufferReader(body), use_threads=False)
        if (table.schema.metadata or {}).get(b"pressroom") != _FORMAT[b"pressroom"]:
            raise ListsMalformedError(
                "the lists of a block were written in a different format version; run the recommender again"
            )
        return _lists(table.combine_chunks())
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ListsMalformedError(f"the lists of a block cannot be read: {str(error)[:200]}") from error


def _lists(table: pa.Table) -> list[UserList]:
    if not table.num_rows:
        return []
    items = table.column("items").chunk(0)
    structs = items.flatten()
    columns = [structs.field(name).to_pylist() for name in ("item", "score", "kind")]
    reasons = [structs.field(name).to_pylist() for name in ("because", "attribute", "share")]
    kinds = {kind.value: kind for kind in ReasonKind}
    ranked = [
        RankedItem(
            item_id=item_id,
            score=score,
            reason=Reason(kind=kinds[kind], because=because, attribute=attribute, share=share),
        )
        for item_id, score, kind, because, attribute, share in zip(*columns, *reasons, strict=True)
    ]
    ends = list(accumulate(items.value_lengths().to_pylist(), initial=0))
    users, segments = table.column("user").to_pylist(), table.column("segment").to_pylist()
    return [
        UserList(user_id=user_id, segment=segment, items=tuple(ranked[ends[place] : ends[place + 1]]))
        for place, (user_id, segment) in enumerate(zip(users, segments, strict=True))
    ]
