"""Finds the text that each audience of a release gets: the written one, or else a plain one."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kinds.recommendation.export.plain import plain_text
from kinds.recommendation.releases.release import CopyEntry, CopyIndex, ReleaseReader
from kinds.recommendation.texts.policy import CopyScope, CopyText

MAX_KEPT_TEXTS = 20_000
"""Texts of segments and items that are cached for all blocks, which take about 10 MB."""

_AT_A_TIME = 1000
"""Keys per query."""

Texts = Mapping[str, CopyText | None]
"""Texts by audience; None if no item is left to write about."""


@dataclass(slots=True)
class TextFinder:
    """Finds the texts of one block at a time. It is not thread-safe."""

    reader: ReleaseReader
    _kept: dict[str, CopyText | None] = field(default_factory=dict, init=False)

    def find_shared(self, audiences: Collection[str]) -> Texts:
        """Return texts of segments or items, which are looked up once as long as the cache has room.

        The result may hold the texts of other audiences, too.
        """
        missing = set(audiences) - self._kept.keys()
        if len(self._kept) + len(missing) > MAX_KEPT_TEXTS:
            self._kept.clear()
            missing = set(audiences)
        self._kept.update(self.find(sorted(missing), self.reader.copy_index()))
        return self._kept

    def find(self, audiences: Sequence[str], index: CopyIndex) -> dict[str, CopyText | None]:
        """Return the texts of these audiences; the index has those for which a text was planned."""
        entries = {audience: index[audience] for audience in audiences if audience in index}
        found = self.reader.find_copies({entry.key for entry in entries.values()})
        return {
            audience: self._of_entry(audience, entries[audience], found)
            if audience in entries
            else self._without_entry(audience)
            for audience in audiences
        }

    def all_of(self, index: CopyIndex) -> Iterator[tuple[str, CopyEntry, CopyText | None]]:
        """Yield every audience of an index in its order, with up to _AT_A_TIME texts in memory."""
        audiences = iter(index)
        while some := list(itertools.islice(audiences, _AT_A_TIME)):
            for audience, text in self.find(some, index).items():
                yield audience, index[audience], text

    def plain(self, audience: str, item_ids: Sequence[str], because: str | None = None) -> CopyText | None:
        """Return a plain text about the first of these items that exist, or None if none does."""
        catalogue, policy = self.reader.catalogue(), self.reader.manifest.copy_policy
        items = [catalogue[item_id] for item_id in item_ids if item_id in catalogue][: policy.featured]
        return plain_text(audience, items, because, policy) if items else None

    def _of_entry(self, audience: str, entry: CopyEntry, found: Mapping[str, CopyText]) -> CopyText | None:
        """Return the written text, or a plain one if it is missing or is about a withdrawn item."""
        here = [item_id for item_id in entry.items if item_id not in self.reader.withdrawn]
        if len(here) == len(entry.items) and entry.key in found:
            return found[entry.key]
        return self.plain(audience, here, entry.because)

    def _without_entry(self, audience: str) -> CopyText | None:
        """Return a plain text for an item; for a user or segment the caller needs the list to write one."""
        scope, _, name = audience.partition(":")
        return self.plain(audience, [name]) if scope == CopyScope.ITEM else None
