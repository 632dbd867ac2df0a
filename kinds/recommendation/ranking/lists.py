"""What ranking makes: a list of items for each user, each with what brought it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class ReasonKind(StrEnum):
    """Which part of the score weighed most."""

    BEHAVIOUR = "behaviour"
    """Others who had to do with `because` had to do with this."""
    CONTENT = "content"
    """It is like `because`, by text or by `attribute`."""
    POPULAR = "popular"
    """Many had to do with it; in its category, if `attribute` says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why an item is on a list, from the terms of its score."""

    kind: ReasonKind
    because: str | None = None
    """The item of the user's history with the largest term."""
    attribute: str | None = None
    """Name of an attribute, or "category", that both items share."""
    share: float = 0.0
    """Of the item's score that this kind of term makes up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedItem:
    """One place on a list."""

    item_id: str
    score: float
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class UserList:
    """A user's list: the first `list_length` are shown, the others are the reserve."""

    user_id: str
    segment: str
    """What copy for groups goes by, see kinds/recommendation/ranking/segments.py."""
    items: Sequence[RankedItem]
