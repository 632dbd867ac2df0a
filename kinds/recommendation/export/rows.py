"""Turns a release into one row per user, with items that are not withdrawn, reasons in words, and texts."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.lists import RankedItem, Reason, ReasonKind, UserList
from kinds.recommendation.release import (
    BlockLists,
    ReleaseReader,
    TextEntry,
    TextIndex,
    audience_of,
    shown_items,
)
from kinds.recommendation.texts.text import Text, TextRequest, TextScope
from kinds.recommendation.texts.write import plain_text

CATEGORY = "category"


def reason_words(reason: Reason, item_id: str, catalogue: Mapping[str, Item]) -> str:
    """Return the reason as one sentence that claims only what the catalogue states and the score used.

    >>> from kinds.recommendation.ranking.lists import Reason, ReasonKind
    >>> items = {"1": Item(id="1", title="Alpine tent", category="Tents"), "2": Item(id="2", title="Lantern")}
    >>> reason_words(Reason(kind=ReasonKind.BEHAVIOUR, because="1"), "2", items)
    'People interested in “Alpine tent” were interested in this too.'
    >>> reason_words(Reason(kind=ReasonKind.POPULAR, attribute="category"), "1", items)
    'Popular in Tents.'
    """
    because = catalogue.get(reason.because) if reason.because is not None else None
    title = f"“{because.title}”" if because is not None else None
    match reason.kind:
        case ReasonKind.BEHAVIOUR:
            if title is None:
                return "People with interests like yours were interested in this."
            return f"People interested in {title} were interested in this too."
        case ReasonKind.CONTENT:
            shared = _shared(reason.attribute, catalogue.get(item_id), because)
            if title is None:
                return f"It fits what you were interested in{shared}."
            if not shared:  # the whole text was compared, so no single attribute explains it
                return f"By its description it goes with {title}, which you were interested in."
            return f"Similar to {title}, which you were interested in{shared}."
        case ReasonKind.POPULAR:
            value = _value(reason.attribute, catalogue.get(item_id))
            if reason.attribute is None or value is None:
                return "Popular with others."
            if reason.attribute == CATEGORY:
                return f"Popular in {value}."
            return f"Popular with others who look for {_words(reason.attribute)} {value}."


def _shared(attribute: str | None, item: Item | None, because: Item | None) -> str:
    """Return the shared attribute in words, such as ": the same brand, Northpeak", or an empty string."""
    value = _value(attribute, item)
    if attribute is None or value is None:
        return ""
    if because is not None and _value(attribute, because) != value:
        return f": {_words(attribute)} {value}"
    return f": the same {_words(attribute)}, {value}"


def _value(attribute: str | None, item: Item | None) -> str | None:
    """Return the value of an attribute as text; None if there is no value or if it is a Boolean."""
    if item is None or attribute is None:
        return None
    value = item.category if attribute == CATEGORY else item.attributes.get(attribute)
    if isinstance(value, bool) or value is None or value == "" or value == ():
        return None
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:g}" if isinstance(value, float) else value


def _words(attribute: str) -> str:
    return attribute.replace("_", " ")


MAX_CACHED_TEXTS = 20_000
"""Maximum number of texts of segments and items that are cached across blocks; they take about 10 MB."""

_AT_A_TIME = 1000
"""Maximum number of text keys per query."""

Texts = Mapping[str, Text | None]
"""Texts by audience; None if no item is left to write about."""


@dataclass(slots=True)
class TextFinder:
    """Finds the texts of one block at a time. It is not thread-safe."""

    reader: ReleaseReader
    _cache: dict[str, Text | None] = field(default_factory=dict, init=False)

    def find_shared(self, audiences: Collection[str]) -> Texts:
        """Return texts of segments or items, which are looked up once as long as the cache has room.

        The result may contain the texts of other audiences, too.
        """
        missing = set(audiences) - self._cache.keys()
        if len(self._cache) + len(missing) > MAX_CACHED_TEXTS:
            self._cache.clear()
            missing = set(audiences)
        self._cache.update(self.find(sorted(missing), self.reader.text_index()))
        return self._cache

    def find(self, audiences: Sequence[str], index: TextIndex) -> dict[str, Text | None]:
        """Return the texts of these audiences.

        An item that is not in the index gets a plain text; any other audience that is not in it gets None.
        """
        entries = {audience: index[audience] for audience in audiences if audience in index}
        written = self.reader.find_texts({entry.key for entry in entries.values()})
        return {
            audience: self._of_entry(audience, entries[audience], written)
            if audience in entries
            else self._without_entry(audience)
            for audience in audiences
        }

    def all_of(self, index: TextIndex) -> Iterator[tuple[str, TextEntry, Text | None]]:
        """Yield the audience, entry and text of every entry of an index, in the index's order.

        At most _AT_A_TIME texts are in memory.
        """
        audiences = iter(index)
        while part := list(itertools.islice(audiences, _AT_A_TIME)):
            for audience, text in self.find(part, index).items():
                yield audience, index[audience], text

    def plain(self, audience: str, item_ids: Sequence[str], because: str | None = None) -> Text | None:
        """Return a plain text about the first of these items that are in the catalogue; None if none are."""
        catalogue, policy = self.reader.catalogue(), self.reader.manifest.text_policy
        items = [catalogue[item_id] for item_id in item_ids if item_id in catalogue][: policy.featured]
        return plain_text(TextRequest.about(audience, items, because, policy), policy) if items else None

    def _of_entry(self, audience: str, entry: TextEntry, written: Mapping[str, Text]) -> Text | None:
        """Return the written text if it exists and names no withdrawn item, or else a plain text or None."""
        left = [item_id for item_id in entry.items if item_id not in self.reader.withdrawn]
        if len(left) == len(entry.items) and entry.key in written:
            return written[entry.key]
        return self.plain(audience, left, entry.because)

    def _without_entry(self, audience: str) -> Text | None:
        """Return a plain text for an item, and None for a user or segment, whose list is not known here."""
        scope, _, name = audience.partition(":")
        return self.plain(audience, [name]) if scope == TextScope.ITEM else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowItem:
    """One entry of an exported list, with fields both for readers and for programs."""

    item_id: str
    rank: int
    """Rank in the list, from 1."""
    title: str
    price: float | None
    currency: str | None
    score: float
    ranked: RankedItem
    reason: str
    """Reason in words."""
    text: Text | None
    """Text of the item; None unless texts are per item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The list and the text of one user."""

    user_id: str
    segment: str
    release: int
    items: tuple[RowItem, ...]
    text: Text | None
    """Text of the user or segment; None if texts are not per user or segment, or if no items are left."""

    def as_json(self) -> dict[str, object]:
        """Return the row as JSON with stable names, as it is written to JSONL, Parquet and Redis."""
        return {
            "user": self.user_id,
            "segment": self.segment,
            "release": self.release,
            "items": [_item_json(item) for item in self.items],
            **text_json(self.text),
        }


def text_json(text: Text | None) -> dict[str, str | None]:
    """Return the parts of a text; without a text, every part is None."""
    return {
        "headline": None if text is None else text.headline,
        "blurb": None if text is None else text.blurb,
        "reason": None if text is None else text.reason,
        "text_origin": None if text is None else text.origin,
    }


def rows(reader: ReleaseReader) -> Iterator[Row]:
    """Yield the row of every user by block, with one block in memory at a time."""
    maker = RowMaker(reader)
    return itertools.chain.from_iterable(map(maker.rows_of, reader.blocks()))


@dataclass(slots=True)
class RowMaker:
    """Makes the rows of one block after another. It is not thread-safe."""

    reader: ReleaseReader
    _finder: TextFinder = field(init=False)

    def __post_init__(self) -> None:
        self._finder = TextFinder(self.reader)

    def rows_of(self, block: BlockLists, users: Collection[str] | None = None) -> list[Row]:
        """Return the rows of a block in its order, or only those of the given users."""
        manifest, withdrawn = self.reader.manifest, self.reader.withdrawn
        lists = [user for user in block.lists if users is None or user.user_id in users]
        shown = [shown_items(user, manifest.rules, withdrawn) for user in lists]
        texts = self._find(block, lists, shown)
        catalogue = self.reader.catalogue()
        return [
            Row(
                user_id=user.user_id,
                segment=user.segment,
                release=self.reader.number,
                items=tuple(
                    self._item(rank, ranked, catalogue, texts) for rank, ranked in enumerate(items, start=1)
                ),
                text=self._text(user, items, texts),
            )
            for user, items in zip(lists, shown, strict=True)
        ]

    def affected_users(self, block: BlockLists, item_ids: Collection[str]) -> set[str]:
        """Return the users whose rows may change when these items are withdrawn or become available again."""
        index = block.text_index if self._scope is TextScope.USER else self.reader.text_index()
        changed = frozenset(item_ids)
        users = set()
        for user in block.lists:
            name = user.user_id if self._scope is TextScope.USER else user.segment
            entry = index.get(audience_of(self._scope, name))
            is_in_text = entry is not None and not changed.isdisjoint(entry.items)
            if is_in_text or not changed.isdisjoint(item.item_id for item in user.items):
                users.add(user.user_id)
        return users

    def _item(
        self,
        rank: int,
        ranked: RankedItem,
        catalogue: Mapping[str, Item],
        texts: Texts,
    ) -> RowItem:
        item = catalogue.get(ranked.item_id)
        return RowItem(
            item_id=ranked.item_id,
            rank=rank,
            title=ranked.item_id if item is None else item.title,
            price=None if item is None else item.price,
            currency=None if item is None else item.currency,
            score=ranked.score,
            ranked=ranked,
            reason=reason_words(ranked.reason, ranked.item_id, catalogue),
            text=texts.get(audience_of(TextScope.ITEM, ranked.item_id))
            if self._scope is TextScope.ITEM
            else None,
        )

    @property
    def _scope(self) -> TextScope:
        return self.reader.manifest.text_policy.scope

    def _text(self, user: UserList, items: Sequence[RankedItem], texts: Texts) -> Text | None:
        if self._scope in (TextScope.ITEM, TextScope.NONE):
            return None
        audience = audience_of(self._scope, user.user_id if self._scope is TextScope.USER else user.segment)
        return texts.get(audience) or self._finder.plain(audience, [item.item_id for item in items])

    def _find(
        self, block: BlockLists, lists: Sequence[UserList], shown: Sequence[Sequence[RankedItem]]
    ) -> Texts:
        """Return the texts of all audiences that these rows need."""
        match self._scope:
            case TextScope.NONE:
                return {}
            case TextScope.USER:
                users = [audience_of(TextScope.USER, user.user_id) for user in lists]
                return self._finder.find(users, block.text_index)
            case TextScope.SEGMENT:
                return self._finder.find_shared(
                    {audience_of(TextScope.SEGMENT, user.segment) for user in lists}
                )
            case TextScope.ITEM:
                return self._finder.find_shared(
                    {audience_of(TextScope.ITEM, item.item_id) for items in shown for item in items}
                )


def _item_json(item: RowItem) -> dict[str, object]:
    reason = item.ranked.reason
    row: dict[str, object] = {
        "item": item.item_id,
        "rank": item.rank,
        "title": item.title,
        "price": item.price,
        "currency": item.currency,
        "score": item.score,
        "reason": item.reason,
        "reason_kind": reason.kind.value,
        "because": reason.because,
        "attribute": reason.attribute,
        "share": reason.share,
    }
    return row if item.text is None else row | {"text": text_json(item.text)}
