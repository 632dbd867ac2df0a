"""A small release in memory, of real resources: catalogue, blocks, lists and texts under their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from kinds.recommendation.catalogue.interactions import UserBlock, block_bytes, block_of
from kinds.recommendation.catalogue.item import Item, catalogue_bytes
from kinds.recommendation.ranking.lists import RankedItem, Reason, ReasonKind, UserList, lists_bytes
from kinds.recommendation.ranking.settings import RankingSettings, Rules
from kinds.recommendation.release import (
    ReleaseCounts,
    ReleasedBlock,
    ReleaseManifest,
    ReleaseReader,
    TextEntry,
    TextIndex,
    audience_of,
    text_index_bytes,
)
from kinds.recommendation.texts.text import Text, TextPolicy, TextScope

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)

POPULAR = Reason(kind=ReasonKind.POPULAR, attribute="category", share=0.6)


def item(item_id: str, **fields: object) -> Item:
    """A tent, unless the fields say otherwise."""
    row = {"title": f"Item {item_id}", "category": "Tents", "price": 99.5, "currency": "EUR"}
    return Item.model_validate({"id": item_id} | row | fields)


def user_list(user_id: str, *item_ids: str, segment: str = "tents", reason: Reason = POPULAR) -> UserList:
    """A list with falling scores."""
    items = [
        RankedItem(item_id=item_id, score=1.0 / rank, reason=reason)
        for rank, item_id in enumerate(item_ids, start=1)
    ]
    return UserList(user_id=user_id, segment=segment, items=tuple(items))


def text(headline: str, origin: str = "model") -> Text:
    """A finished text."""
    return Text(headline=headline, blurb=f"{headline}, in full.", reason="Picked for you.", origin=origin)


def user_block(history: Mapping[str, Sequence[str]]) -> UserBlock:
    """Each user's items, the newest first, a day apart."""
    users = tuple(sorted(history))
    item_ids = tuple(sorted({item_id for items in history.values() for item_id in items}))
    place = {item_id: number for number, item_id in enumerate(item_ids)}
    entries = [
        (place[item_id], int(AT.timestamp()) - 86_400 * age)
        for user in users
        for item_id, age in sorted((item_id, age) for age, item_id in enumerate(history[user]))
    ]
    return UserBlock(
        user_ids=users,
        item_ids=item_ids,
        indptr=np.cumsum([0, *(len(history[user]) for user in users)], dtype=np.int64),
        items=np.array([entry[0] for entry in entries], np.int32),
        weights=np.ones(len(entries), np.float32),
        times=np.array([entry[1] for entry in entries], np.int64),
        is_purchase=np.zeros(len(entries), np.bool_),
    )


@dataclass(slots=True)
class Shelf:
    """What a store and the table `texts` would hold."""

    resources: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, Text] = field(default_factory=dict)
    num_read: int = 0
    num_requested: list[int] = field(default_factory=list)
    """Number of texts of each call of `find`."""

    def put(self, body: bytes) -> str:
        sha256 = hashlib.sha256(body).hexdigest()
        self.resources[sha256] = body
        return sha256

    def read(self, sha256: str) -> bytes:
        self.num_read += 1
        return self.resources[sha256]

    def find(self, keys: Collection[str]) -> Mapping[str, Text]:
        self.num_requested.append(len(keys))
        return {key: self.texts[key] for key in keys if key in self.texts}

    def entry(self, key: str, items: Sequence[str], written: Text | None) -> TextEntry:
        """An entry of a text index; its text is on the shelf unless its job failed."""
        sha256 = hashlib.sha256(key.encode()).hexdigest()
        if written is not None:
            self.texts[sha256] = written
        return TextEntry(key=sha256, items=tuple(items))


def make_release(
    shelf: Shelf,
    lists: Sequence[UserList],
    items: Sequence[Item],
    *,
    number: int = 1,
    num_blocks: int = 1,
    rules: Rules | None = None,
    policy: TextPolicy | None = None,
    index: TextIndex | None = None,
    history: Mapping[str, Sequence[str]] | None = None,
    model: str = "model",
    withdrawn: frozenset[str] = frozenset(),
) -> ReleaseReader:
    """A release of these lists; `index` is of all audiences, whatever the scope."""
    policy = policy or TextPolicy(scope=TextScope.SEGMENT, fields=("title", "category", "price", "currency"))
    index, history = index or {}, history or {}
    blocks = []
    for block in range(num_blocks):
        own = [one for one in lists if block_of(one.user_id, num_blocks) == block]
        own.sort(key=lambda one: one.user_id)
        body = lists_bytes(own)
        audiences = [audience_of(TextScope.USER, one.user_id) for one in own]
        entries = {audience: index[audience] for audience in audiences if audience in index}
        past = user_block({one.user_id: history.get(one.user_id, ()) for one in own})
        blocks.append(
            ReleasedBlock(
                interactions_sha256=shelf.put(block_bytes(past)),
                basis=hashlib.sha256(body).hexdigest(),
                lists_sha256=shelf.put(body),
                num_users=len(own),
                text_index_sha256=shelf.put(text_index_bytes(entries))
                if policy.scope is TextScope.USER
                else None,
            )
        )
    is_shared = policy.scope in (TextScope.SEGMENT, TextScope.ITEM)
    manifest = ReleaseManifest(
        recommender="nightly",
        created_at=AT,
        as_of=AT,
        inputs_sha256="0" * 64,
        catalogue_sha256=shelf.put(catalogue_bytes(items)),
        model_sha256=hashlib.sha256(model.encode()).hexdigest(),
        fitted_inputs_sha256="0" * 64,
        ranking=RankingSettings(),
        rules=rules or Rules(list_length=3, reserve=2),
        text_policy=policy,
        language_model="smollm2-135m-instruct",
        blocks=tuple(blocks),
        text_index_sha256=shelf.put(text_index_bytes(index)) if is_shared else None,
        counts=ReleaseCounts(num_users=len(lists), num_items=len(items)),
    )
    return ReleaseReader(
        manifest=manifest, number=number, read=shelf.read, texts=shelf.find, withdrawn=withdrawn
    )
