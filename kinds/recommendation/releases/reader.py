"""Reads a stored release by digest, with one block in memory at a time."""

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
"""Default number of items of a user's history that `recent_items` returns."""


@dataclass(slots=True, kw_only=True)
class StoredRelease:
    """Implements release.ReleaseReader. It is not thread-safe."""

    manifest: ReleaseManifest
    number: int
    read: Callable[[Sha256], bytes]
    """Returns the bytes of a resource or artifact that the manifest names, checked against the digest."""
    copies: Callable[[Collection[Sha256]], Mapping[Sha256, CopyText]]
    """Returns the stored texts of keys, as store.texts.find_copies does with a database."""
    withdrawn: frozenset[str] = frozenset()
    _items: Mapping[str, Item] | None = field(default=None, init=False)
    _index: CopyIndex | None = field(default=None, init=False)

    def block(self, number: int) -> BlockLists:
        """Return one block."""
        block = self.manifest.blocks[number]
        index = block.copy_index_sha256
        return BlockLists(
            number=number,
            block=block,
            lists=read_lists_bytes(self.read(block.lists_sha256)),
            copies={} if index is None else read_copy_index(self.read(index)),
        )

    def blocks(self) -> Iterator[BlockLists]:
        """Yield all blocks in order of their number."""
        return map(self.block, range(len(self.manifest.blocks)))

    def catalogue(self) -> Mapping[str, Item]:
        """Return the items by id; they are cached."""
        if self._items is None:
            body = self.read(self.manifest.catalogue_sha256)
            self._items = {item.id: item for item in read_catalogue_bytes(body)}
        return self._items

    def copy_index(self) -> CopyIndex:
        """Return the copy index of segments or items; it is cached."""
        if self._index is None:
            index = self.manifest.copy_index_sha256
            self._index = {} if index is None else read_copy_index(self.read(index))
        return self._index

    def interactions(self, number: int) -> UserBlock:
        """Return the interactions of the users of a block."""
        return read_block_bytes(self.read(self.manifest.blocks[number].interactions_sha256))

    def find_copies(self, keys: Collection[Sha256]) -> Mapping[Sha256, CopyText]:
        """Return the stored texts of these keys."""
        return self.copies(keys) if keys else {}


def recent_items(block: UserBlock, user_id: str, limit: int = MAX_HISTORY) -> tuple[str, ...]:
    """Return the ids of a user's items, newest first, or by weight if the log has no times."""
    place = bisect_left(block.user_ids, user_id)
    if place == len(block.user_ids) or block.user_ids[place] != user_id:
        return ()
    entries = slice(block.indptr[place], block.indptr[place + 1])
    items, times, weights = block.items[entries], block.times[entries], block.weights[entries]
    newest = np.lexsort((items, -weights, -times))[:limit]
    return tuple(block.item_ids[item] for item in items[newest])
