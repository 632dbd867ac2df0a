"""The difference between two releases as a page: figures, items that came and went, some users and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from jobs.kinds.recommendation.release import ReleaseReader
from pressroom.page import page_part, page_policy
from pressroom.recommendations.diff_causes import title_of
from pressroom.recommendations.diff_summary import DiffSummary
from pressroom.recommendations.diff_texts import TextDiff
from pressroom.recommendations.diff_users import Place, UserDiff
from pressroom.recommendations.page import page_environment, segment_label


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSample:
    """What the page shows of it."""

    users: Sequence[UserDiff]
    texts: Sequence[TextDiff]
    items: Sequence[tuple[str, int, int]]
    """Id, lists lost, lists gained: the most changed first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePlace:
    """An item on one side."""

    title: str
    change: str | None
    words: str
    """Why, or from where to where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePair:
    """A user's two lists."""

    user: UserDiff
    segment: str
    before: Sequence[PagePlace]
    after: Sequence[PagePlace]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageMove:
    """An item that many lists gained or lost."""

    title: str
    num_lost: int
    num_gained: int
    price: str
    """Old and new, if it changed."""


def render_diff_page(
    before: ReleaseReader, after: ReleaseReader, summary: DiffSummary, sample: DiffSample
) -> str:
    """The page as HTML; it fetches nothing and runs no script."""
    style = page_part("recommendations.css")
    return (
        page_environment()
        .get_template("recommendations_diff.html.jinja")
        .render(
            title=after.manifest.refresh or "Recommendations",
            before=before.manifest,
            after=after.manifest,
            summary=summary,
            pairs=[_pair(user, before, after) for user in sample.users],
            texts=sample.texts,
            items=[_move(item_id, lost, gained, before, after) for item_id, lost, gained in sample.items],
            style=Markup(style),  # noqa: S704 - a file of this package
            policy=page_policy(style),
        )
    )


def _pair(user: UserDiff, before: ReleaseReader, after: ReleaseReader) -> PagePair:
    old, new = (segment_label(one or "") for one in (user.segment_before, user.segment_after))
    was_there = [place for place in user.places if place.rank_before is not None]
    return PagePair(
        user=user,
        segment=new if old == new else f"{old}, now {new}",
        before=[
            _place(place, before, after, on_both=place.rank_after is not None)
            for place in sorted(was_there, key=lambda place: place.rank_before or 0)
        ],
        after=[_place(place, before, after, on_both=False) for place in user.places if place.rank_after],
    )


def _place(place: Place, before: ReleaseReader, after: ReleaseReader, *, on_both: bool) -> PagePlace:
    """On the side of the later list, and on both for one that left, with its causes."""
    title = title_of(place.item_id, after.catalogue(), before.catalogue())
    if on_both:
        return PagePlace(title=title, change=None, words="")
    why = " or ".join(cause.value for cause in place.causes)
    match place.change:
        case "added":
            words = f"new on the list: {why}"
        case "removed":
            words = f"left: {why}"
        case "moved":
            words = f"was {place.rank_before}: {why}"
        case _:
            words = ""
    return PagePlace(title=title, change=place.change, words=words)


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
