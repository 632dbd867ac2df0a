"""The results of ranking: a list of items for each user, with a reason for each item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class ReasonKind(StrEnum):
    """The largest part of an item's score."""

    BEHAVIOUR = "behaviour"
    """Users who interacted with `because` also interacted with this item."""
    CONTENT = "content"
    """The item resembles `because` by text or by `attribute`."""
    POPULAR = "popular"
    """Many users interacted with the item; within its category, if `attribute` says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why an item is on a list, from the terms of its score."""

    kind: ReasonKind
    because: str | None = None
    """The item of the user's history with the largest term."""
    attribute: str | None = None
    """Name of an attribute, or "category", that both items share."""
    share: float = 0.0
    """Share of the item's score that comes from this part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedItem:
    """One place on a list."""

    item_id: str
    score: float
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class UserList:
    """A user's list, of which the first `list_length` items are shown and the others are the reserve."""

    user_id: str
    segment: str
    """Group of users that may share a text, see kinds/recommendation/ranking/segments.py."""
    items: Sequence[RankedItem]
