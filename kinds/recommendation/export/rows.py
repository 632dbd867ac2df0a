"""Turns a release into one row per user, with the items not withdrawn, reasons in words, and texts."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.export.reasons import reason_words
from kinds.recommendation.export.texts import TextFinder, Texts
from kinds.recommendation.ranking.lists import RankedItem, UserList
from kinds.recommendation.releases.release import (
    BlockLists,
    ReleaseReader,
    audience_of,
    shown_items,
)
from kinds.recommendation.texts.policy import CopyScope, CopyText


@dataclass(frozen=True, slots=True, kw_only=True)
class RowItem:
    """One place of a list as it is exported, for people and for machines."""

    item_id: str
    rank: int
    """Rank on the list, from 1."""
    title: str
    price: float | None
    currency: str | None
    score: float
    ranked: RankedItem
    reason: str
    """Reason in words."""
    copy: CopyText | None
    """Text of the item; None unless texts are per item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The list and the text of one user."""

    user_id: str
    segment: str
    release: int
    items: tuple[RowItem, ...]
    copy: CopyText | None
    """Text of the user or segment; None if texts are not per user or segment, or if no items are left."""

    def as_json(self) -> dict[str, object]:
        """Return the row under stable names, as JSONL, Parquet and Redis hold it."""
        return {
            "user": self.user_id,
            "segment": self.segment,
            "release": self.release,
            "items": [_item_json(item) for item in self.items],
            **copy_json(self.copy),
        }


def copy_json(text: CopyText | None) -> dict[str, str | None]:
    """Return the parts of a text; without a text, every part is None."""
    return {
        "headline": None if text is None else text.headline,
        "blurb": None if text is None else text.blurb,
        "reason": None if text is None else text.reason,
        "copy_origin": None if text is None else text.origin,
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
        """Return the rows of a block in its order, or those of the given users only."""
        manifest, withdrawn = self.reader.manifest, self.reader.withdrawn
        lists = [one for one in block.lists if users is None or one.user_id in users]
        shown = [shown_items(one, manifest.rules, withdrawn) for one in lists]
        texts = self._find(block, lists, shown)
        catalogue = self.reader.catalogue()
        return [
            Row(
                user_id=one.user_id,
                segment=one.segment,
                release=self.reader.number,
                items=tuple(
                    self._item(rank, ranked, catalogue, texts) for rank, ranked in enumerate(items, start=1)
                ),
                copy=self._copy(one, items, texts),
            )
            for one, items in zip(lists, shown, strict=True)
        ]

    def touched(self, block: BlockLists, item_ids: Collection[str]) -> set[str]:
        """Return the users whose rows may change when these items are withdrawn or come back."""
        index = block.copies if self._scope is CopyScope.USER else self.reader.copy_index()
        wanted = frozenset(item_ids)
        touched = set()
        for one in block.lists:
            name = one.user_id if self._scope is CopyScope.USER else one.segment
            entry = index.get(audience_of(self._scope, name))
            in_text = entry is not None and not wanted.isdisjoint(entry.items)
            if in_text or not wanted.isdisjoint(item.item_id for item in one.items):
                touched.add(one.user_id)
        return touched

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
            copy=texts.get(audience_of(CopyScope.ITEM, ranked.item_id))
            if self._scope is CopyScope.ITEM
            else None,
        )

    @property
    def _scope(self) -> CopyScope:
        return self.reader.manifest.copy_policy.scope

    def _copy(self, one: UserList, items: Sequence[RankedItem], texts: Texts) -> CopyText | None:
        if self._scope in (CopyScope.ITEM, CopyScope.NONE):
            return None
        name = one.user_id if self._scope is CopyScope.USER else one.segment
        found = texts.get(audience_of(self._scope, name))
        return found or self._finder.plain(audience_of(self._scope, name), [item.item_id for item in items])

    def _find(
        self, block: BlockLists, lists: Sequence[UserList], shown: Sequence[Sequence[RankedItem]]
    ) -> Texts:
        """Return the texts of all audiences that these rows need."""
        match self._scope:
            case CopyScope.NONE:
                return {}
            case CopyScope.USER:
                users = [audience_of(CopyScope.USER, one.user_id) for one in lists]
                return self._finder.find(users, block.copies)
            case CopyScope.SEGMENT:
                return self._finder.find_shared(
                    {audience_of(CopyScope.SEGMENT, one.segment) for one in lists}
                )
            case CopyScope.ITEM:
                return self._finder.find_shared(
                    {audience_of(CopyScope.ITEM, item.item_id) for items in shown for item in items}
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
    return row if item.copy is None else row | {"copy": copy_json(item.copy)}
