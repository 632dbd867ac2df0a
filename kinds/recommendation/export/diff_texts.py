"""Compares the texts of two releases: which audiences have a different one, and why."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kinds.recommendation.changes import change_of
from kinds.recommendation.export.texts import TextFinder
from kinds.recommendation.releases.release import CopyIndex, ReleaseReader
from kinds.recommendation.texts.policy import CopyText

_AT_A_TIME = 500
"""Texts that are looked up together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDiff:
    """An audience whose text has changed."""

    audience: str
    change: Literal["new", "gone", "changed"]
    why: str
    before: CopyText | None
    after: CopyText | None


class TextComparer:
    """Compares copy indexes of two releases."""

    def __init__(self, before: ReleaseReader, after: ReleaseReader) -> None:
        self._before, self._after = before, after
        self._old, self._new = TextFinder(before), TextFinder(after)
        self.num_carried = 0

    def compare(self, before: CopyIndex, after: CopyIndex) -> Iterator[TextDiff]:
        """Yield the texts that are not carried over, ordered by audience; the others are counted."""
        changed = []
        for audience in sorted(before.keys() | after.keys()):
            old, new = before.get(audience), after.get(audience)
            if old is not None and new is not None and old.key == new.key:
                self.num_carried += 1
            else:
                changed.append(audience)
        audiences = iter(changed)
        while some := list(itertools.islice(audiences, _AT_A_TIME)):
            yield from self._compared(some, before, after)

    def _compared(self, some: list[str], before: CopyIndex, after: CopyIndex) -> Iterator[TextDiff]:
        olds = self._old.find([one for one in some if one in before], before)
        news = self._new.find([one for one in some if one in after], after)
        for audience in some:
            is_old, is_new = audience in before, audience in after
            yield TextDiff(
                audience=audience,
                change="changed" if is_old and is_new else "new" if is_new else "gone",
                why=self._why(audience, before, after) if is_new else "no audience any more",
                before=olds.get(audience),
                after=news.get(audience),
            )

    def _why(self, audience: str, before: CopyIndex, after: CopyIndex) -> str:
        """Return the reason for a change, by the same rule that the refresh itself uses."""
        change = change_of(
            audience,
            after[audience],
            before.get(audience),
            self._after.catalogue(),
            self._before.catalogue(),
            self._after.manifest.copy_policy,
        )
        return change.why.value
