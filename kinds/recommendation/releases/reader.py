"""A release as it is stored: read by digest, one block in memory at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from kinds.recommendation.catalogue.catalogue_file import read_catalogue_bytes
from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.interactions_file import read_block_bytes
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.lists_file import read_lists_bytes
from kinds.recommendation.releases.release import (
    BlockLists,
    CopyIndex,
    ReleaseManifest,
    Sha256,
    read_copy_index,
)
from kinds.recommendation.texts.policy import CopyText

MAX_HISTORY = 8
"""Items of a user's past that people are shown."""


@dataclass(slots=True, kw_only=True)
class StoredRelease:
    """Implements release.ReleaseReader; for one thread."""

    manifest: ReleaseManifest
    number: int
    read: Callable[[Sha256], bytes]
    """The bytes of a resource or artifact that the manifest names, checked against the digest."""
    copies: Callable[[Collection[Sha256]], Mapping[Sha256, CopyText]]
    """The texts of these keys that are there: store.texts.find_copies over a database."""
    withdrawn: frozenset[str] = frozenset()
    _items: Mapping[str, Item] | None = field(default=None, init=False)
    _index: CopyIndex | None = field(default=None, init=False)

    def block(self, number: int) -> BlockLists:
        """One block."""
        block = self.manifest.blocks[number]
        index = block.copy_index_sha256
        return BlockLists(
            number=number,
            block=block,
            lists=read_lists_bytes(self.read(block.lists_sha256)),
            copies={} if index is None else read_copy_index(self.read(index)),
        )

    def blocks(self) -> Iterator[BlockLists]:
        """All blocks by number."""
        return map(self.block, range(len(self.manifest.blocks)))

    def catalogue(self) -> Mapping[str, Item]:
        """The items by id; kept."""
        if self._items is None:
            body = self.read(self.manifest.catalogue_sha256)
            self._items = {item.id: item for item in read_catalogue_bytes(body)}
        return self._items

    def copy_index(self) -> CopyIndex:
        """Texts of segments or items; kept."""
        if self._index is None:
            index = self.manifest.copy_index_sha256
            self._index = {} if index is None else read_copy_index(self.read(index))
        return self._index

    def interactions(self, number: int) -> UserBlock:
        """What the users of a block had to do with."""
        return read_block_bytes(self.read(self.manifest.blocks[number].interactions_sha256))

    def find_copies(self, keys: Collection[Sha256]) -> Mapping[Sha256, CopyText]:
        """The texts that are there of these keys."""
        return self.copies(keys) if keys else {}


def recent_items(block: UserBlock, user_id: str, limit: int = MAX_HISTORY) -> tuple[str, ...]:
    """Ids of what a user had to do with, the newest first; by weight where the log has no times."""
    place = bisect_left(block.user_ids, user_id)
    if place == len(block.user_ids) or block.user_ids[place] != user_id:
        return ()
    entries = slice(block.indptr[place], block.indptr[place + 1])
    items, times, weights = block.items[entries], block.times[entries], block.weights[entries]
    newest = np.lexsort((items, -weights, -times))[:limit]
    return tuple(block.item_ids[item] for item in items[newest])
