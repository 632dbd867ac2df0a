"""The words that each audience of a release gets: as written, or plain ones in their place."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kinds.recommendation.export.plain import plain_text
from kinds.recommendation.releases.release import CopyEntry, CopyIndex, ReleaseReader
from kinds.recommendation.texts.policy import CopyScope, CopyText

MAX_KEPT_TEXTS = 20_000
"""Of segments and items, so that blocks share what they look up: some 10 MB."""

_AT_A_TIME = 1000
"""Keys of one query."""

Texts = Mapping[str, CopyText | None]
"""By audience; None where nothing is left to write about."""


@dataclass(slots=True)
class TextFinder:
    """Finds texts a block at a time; for one thread."""

    reader: ReleaseReader
    _kept: dict[str, CopyText | None] = field(default_factory=dict, init=False)

    def find_shared(self, audiences: Collection[str]) -> Texts:
        """Of segments or items; looked up once while there is room for them."""
        missing = set(audiences) - self._kept.keys()
        if len(self._kept) + len(missing) > MAX_KEPT_TEXTS:
            self._kept.clear()
            missing = set(audiences)
        self._kept.update(self.find(sorted(missing), self.reader.copy_index()))
        return self._kept

    def find(self, audiences: Sequence[str], index: CopyIndex) -> dict[str, CopyText | None]:
        """Of these audiences, by an index that has those which a text was planned for."""
        entries = {audience: index[audience] for audience in audiences if audience in index}
        found = self.reader.find_copies({entry.key for entry in entries.values()})
        return {
            audience: self._of_entry(audience, entries[audience], found)
            if audience in entries
            else self._without_entry(audience)
            for audience in audiences
        }

    def all_of(self, index: CopyIndex) -> Iterator[tuple[str, CopyEntry, CopyText | None]]:
        """Every audience of an index, in its order, some hundred texts in memory at a time."""
        audiences = iter(index)
        while some := list(itertools.islice(audiences, _AT_A_TIME)):
            for audience, text in self.find(some, index).items():
                yield audience, index[audience], text

    def plain(self, audience: str, item_ids: Sequence[str], because: str | None = None) -> CopyText | None:
        """Words about the first of these items that are there; None without any."""
        catalogue, policy = self.reader.catalogue(), self.reader.manifest.copy_policy
        items = [catalogue[item_id] for item_id in item_ids if item_id in catalogue][: policy.featured]
        return plain_text(audience, items, because, policy) if items else None

    def _of_entry(self, audience: str, entry: CopyEntry, found: Mapping[str, CopyText]) -> CopyText | None:
        """The text as written, or the plain one: where there is none, or where it names what has left."""
        here = [item_id for item_id in entry.items if item_id not in self.reader.withdrawn]
        if len(here) == len(entry.items) and entry.key in found:
            return found[entry.key]
        return self.plain(audience, here, entry.because)

    def _without_entry(self, audience: str) -> CopyText | None:
        """An item says itself what a text would be about; a user or segment goes by the list."""
        scope, _, name = audience.partition(":")
        return self.plain(audience, [name]) if scope == CopyScope.ITEM else None
