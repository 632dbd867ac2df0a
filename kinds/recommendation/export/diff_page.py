"""Renders the difference between two releases as a page: figures, changed items, some users and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kinds.recommendation.export.comparison import Cause, DiffSummary, Place, TextDiff, UserDiff, title_of
from kinds.recommendation.export.page import page, segment_label
from kinds.recommendation.release import ReleaseReader


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSample:
    """Examples that the page shows."""

    users: Sequence[UserDiff]
    texts: Sequence[TextDiff]
    items: Sequence[tuple[str, int, int]]
    """Id, lists lost and lists gained of each item, the most changed first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePlace:
    """An item on one of the two lists."""

    title: str
    change: str | None
    words: str
    """Description of the change, with its causes unless all changes of the user share them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePair:
    """A user's two lists."""

    user: UserDiff
    segment: str
    why: str
    """Causes of all changes; empty if they differ, in which case each place states its own."""
    before: Sequence[PagePlace]
    after: Sequence[PagePlace]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageMove:
    """An item that many lists gained or lost."""

    title: str
    num_lost: int
    num_gained: int
    price: str
    """Old and new price if it changed, or why the item has none to compare."""


def render_diff_page(
    before: ReleaseReader, after: ReleaseReader, summary: DiffSummary, sample: DiffSample
) -> str:
    """Return the page as HTML; it loads nothing and runs no script."""
    return page("recommendations_diff.html.jinja").render(
        after.manifest.created_at,
        title=after.manifest.recommender or "Recommendations",
        before=before.manifest,
        after=after.manifest,
        summary=summary,
        pairs=[_pair(user, before, after) for user in sample.users],
        texts=sample.texts,
        items=[_move(item_id, lost, gained, before, after) for item_id, lost, gained in sample.items],
    )


def _pair(user: UserDiff, before: ReleaseReader, after: ReleaseReader) -> PagePair:
    old, new = (segment_label(one or "") for one in (user.segment_before, user.segment_after))
    all_causes = {place.causes for place in user.changed_places()}
    is_common = len(all_causes) == 1
    was_there = [place for place in user.places if place.rank_before is not None]

    def place_of(place: Place, *, on_both: bool) -> PagePlace:
        """Return the place as shown; a place on both lists is marked on the later one only."""
        title = title_of(place.item_id, after.catalogue(), before.catalogue())
        if on_both or place.change is None:
            return PagePlace(title=title, change=None, words="")
        words = {"added": "new on the list", "removed": "left", "moved": f"was {place.rank_before}"}
        why = "" if is_common else f": {causes_words(place.causes)}"
        return PagePlace(title=title, change=place.change, words=f"{words[place.change]}{why}")

    return PagePair(
        user=user,
        segment=new if old == new else f"{old}, now {new}",
        why=causes_words(all_causes.pop()) if is_common else "",
        before=[
            place_of(place, on_both=place.rank_after is not None)
            for place in sorted(was_there, key=lambda place: place.rank_before or 0)
        ],
        after=[place_of(place, on_both=False) for place in user.places if place.rank_after is not None],
    )


def causes_words(causes: Sequence[Cause]) -> str:
    """Return causes in words.

    >>> causes_words([Cause.INTERACTIONS, Cause.MODEL])
    'their interactions changed or model refitted'
    """
    return " or ".join(cause.value for cause in causes)


def _move(item_id: str, lost: int, gained: int, before: ReleaseReader, after: ReleaseReader) -> PageMove:
    old, new = before.catalogue().get(item_id), after.catalogue().get(item_id)
    if new is None:
        price = "gone from the catalogue"
    elif not new.is_available(after.manifest.as_of):
        price = "not available"
    elif old is None:
        price = "new"
    elif old.price != new.price:
        price = f"price {_amount(old.price)}, now {_amount(new.price)}"
    else:
        price = ""
    return PageMove(
        title=title_of(item_id, after.catalogue(), before.catalogue()),
        num_lost=lost,
        num_gained=gained,
        price=price,
    )


def _amount(price: float | None) -> str:
    return "none" if price is None else f"{price:,.2f}"
