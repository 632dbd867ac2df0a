"""The page of a release: some users of each segment, their lists and the reasons.

The page loads nothing. Titles, ids and texts come from the authors of the catalogue and the log, and from a
language model. The template escapes them, and the page's content security policy lets no script run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kinds.recommendation.catalogue.interactions import block_of
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.export.census import Census, ReleaseFigures, SegmentFigures
from kinds.recommendation.export.rows import Row, RowMaker
from kinds.recommendation.ranking.lists import NEW, OTHER
from kinds.recommendation.release import ReleaseReader, recent_items
from kinds.recommendation.texts.text import Text, TextScope
from pressroom.pages import Page

MAX_SEGMENTS = 16
"""Number of the largest segments that the page shows; recommendations.jsonl contains all segments."""

MOST_SHOWN = 12
"""Number of items in the table of the items that are on the most lists."""

SHOWN_HISTORY = 4
"""Number of items of a user's history that are shown."""

MAX_CHARACTERS = 140
"""Maximum length of a title or an id on the page, which is enough to recognise it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageUser:
    """A user as shown on the page, with history and list."""

    row: Row
    history: tuple[str, ...]
    """Titles of the user's last items, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSegment:
    """A segment with the users that are shown as examples."""

    figures: SegmentFigures
    label: str
    text: Text | None
    """Text of the segment; None unless texts are written per segment."""
    users: tuple[PageUser, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageItem:
    """An item that is on many lists."""

    item: Item | None
    item_id: str
    num_lists: int
    share: float
    """Share of all users whose list has the item."""


def render_recommendations_page(
    reader: ReleaseReader, census: Census, figures: ReleaseFigures, *, title: str
) -> str:
    """Return the page as HTML; the blocks of the users on the page are read again."""
    segments = census.segments()
    return page("recommendations.html.jinja").render(
        reader.manifest.created_at,
        title=title,
        manifest=reader.manifest,
        figures=figures,
        segments=_segments(reader, census, segments),
        num_segments=len(segments),
        most_shown=_most_shown(reader, census, figures),
        rules=rules_words(reader),
        scope=reader.manifest.text_policy.scope.value,
    )


def page(template: str) -> Page:
    """Return a page about releases, with filters for the values of catalogues."""
    return Page(
        package="kinds.recommendation.export",
        template=template,
        style="recommendations.css",
        filters={"percent": percent, "money": money, "cut": cut},
    )


def percent(share: float | None) -> str:
    """Return a share as a percentage, with one decimal below 10%, or a dash if the share is None.

    >>> percent(0.125), percent(0.004), percent(None)
    ('12%', '0.4%', '–')
    """
    if share is None:
        return "–"
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"


def money(price: float | None, currency: str | None) -> str:
    """Return a price with its currency, or an empty string if there is no price.

    >>> money(1299.5, "EUR"), money(3, None), money(None, "EUR")
    ('1,299.50 EUR', '3.00', '')
    """
    if price is None:
        return ""
    return f"{price:,.2f} {currency}" if currency else f"{price:,.2f}"


def cut(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Return the text, shortened to the limit with an ellipsis if it is longer.

    >>> cut("a" * 10, 5)
    'aaaa…'
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def segment_label(name: str) -> str:
    """Return the name of a segment as it is shown to readers."""
    return {NEW: "New users, without a history", OTHER: "Users of items without a category"}.get(name, name)


def users_of(reader: ReleaseReader, user_ids: Collection[str]) -> Mapping[str, PageUser]:
    """Return these users by id; each block is read once."""
    by_block: defaultdict[int, set[str]] = defaultdict(set)
    for user_id in user_ids:
        by_block[block_of(user_id, len(reader.manifest.blocks))].add(user_id)
    maker, catalogue = RowMaker(reader), reader.catalogue()
    users = {}
    for number in sorted(by_block):
        past = reader.interactions(number)
        for row in maker.rows_of(reader.block(number), by_block[number]):
            recent = recent_items(past, row.user_id, SHOWN_HISTORY)
            titles = tuple(catalogue[item_id].title for item_id in recent if item_id in catalogue)
            users[row.user_id] = PageUser(row=row, history=titles)
    return users


def rules_words(reader: ReleaseReader) -> list[str]:
    """Return the rules of a release in words, without those that are off."""
    rules = reader.manifest.rules
    words = [f"{rules.list_length} items per list, {rules.reserve} in reserve"]
    if rules.exclude != "nothing":
        past = "interacted with" if rules.exclude == "interacted" else "bought"
        words.append(f"nothing that the user has already {past}")
    if rules.max_per_category:
        words.append(f"at most {rules.max_per_category} per category")
    words += [f"at most {cap} per {cut(name, 40)}" for name, cap in sorted(rules.max_per_attribute.items())]
    price = rules.price
    if price.min is not None or price.max is not None:
        low, high = "any" if price.min is None else price.min, "any" if price.max is None else price.max
        words.append(f"prices from {low} to {high}")
    if price.min_ratio is not None or price.max_ratio is not None:
        words.append("prices near those of the user's history")
    blocked = len(rules.blocked_items), len(rules.blocked_categories)
    if any(blocked):
        words.append(f"{blocked[0]} items and {blocked[1]} categories blocked")
    return words


def _segments(reader: ReleaseReader, census: Census, segments: Sequence[SegmentFigures]) -> list[PageSegment]:
    """Return the largest segments, always including that of users without a history."""
    chosen = list(segments[:MAX_SEGMENTS])
    chosen += [segment for segment in segments[MAX_SEGMENTS:] if segment.name == NEW]
    examples = {segment.name: census.picked(segment.name) for segment in chosen}
    users = users_of(reader, {user_id for ids in examples.values() for user_id in ids})
    is_shared = reader.manifest.text_policy.scope is TextScope.SEGMENT
    return [
        PageSegment(
            figures=segment,
            label=segment_label(segment.name),
            text=users[examples[segment.name][0]].row.text if is_shared and examples[segment.name] else None,
            users=tuple(users[user_id] for user_id in examples[segment.name]),
        )
        for segment in chosen
    ]


def _most_shown(reader: ReleaseReader, census: Census, figures: ReleaseFigures) -> list[PageItem]:
    catalogue = reader.catalogue()
    return [
        PageItem(
            item=catalogue.get(item_id),
            item_id=item_id,
            num_lists=number,
            share=number / figures.num_users,
        )
        for item_id, number in census.most_shown(MOST_SHOWN)
    ]
