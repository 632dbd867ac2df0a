"""Collects the figures of a release and the users that its page shows, while the rows are exported."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Self, TypeVar

from kinds.recommendation.export.rows import Row
from kinds.recommendation.ranking.lists import ReasonKind
from kinds.recommendation.texts.text import MODEL, TextScope

USERS_OF_SEGMENT = 3
"""Number of users of each segment that the page shows."""


ValueT = TypeVar("ValueT")


@dataclass(slots=True)
class HashSample(Generic[ValueT]):
    """Keeps the values whose names have the lowest hashes, so that the same values are chosen every time."""

    limit: int
    _heap: list[tuple[int, str, ValueT]] = field(default_factory=list)

    def add(self, name: str, value: ValueT) -> None:
        """Offer a value. Do not offer the same name twice."""
        low = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        heapq.heappush(self._heap, (-low, name, value))
        if len(self._heap) > self.limit:
            heapq.heappop(self._heap)

    def values(self) -> list[ValueT]:
        """Return the kept values, the one with the lowest hash first."""
        return [value for _, _, value in sorted(self._heap, reverse=True)]


def _users_of_segment() -> HashSample[str]:
    return HashSample(USERS_OF_SEGMENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFigures:
    """Figures of one segment."""

    name: str
    num_users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFigures:
    """Figures of a release."""

    number: int
    num_users: int
    num_users_without_items: int
    num_items: int
    """Number of items in the catalogue."""
    num_items_shown: int
    """Number of items that are on at least one list."""
    num_places: int
    """Number of places on all lists together."""
    num_withdrawn: int
    """Number of items withdrawn since the release was made."""
    reasons: dict[str, int]
    """Number of places by kind of reason."""
    texts: dict[str, int]
    """Number of times a text is shown, by origin: once per user, or per place if texts are per item."""
    num_texts: dict[str, int]
    """Number of audiences (users, segments or items) whose text is shown, by the origin of the text."""

    @property
    def coverage(self) -> float | None:
        """Share of the catalogue that is on at least one list; None if the catalogue is empty."""
        return self.num_items_shown / self.num_items if self.num_items else None

    @property
    def model_share(self) -> float | None:
        """Share of the texts that a language model wrote; None if there are no texts."""
        total = sum(self.num_texts.values())
        return self.num_texts.get(MODEL, 0) / total if total else None

    def as_json(self) -> dict[str, object]:
        """Return the figures as JSON with stable names."""
        return {
            "release": self.number,
            "num_users": self.num_users,
            "num_users_without_items": self.num_users_without_items,
            "num_items": self.num_items,
            "num_items_shown": self.num_items_shown,
            "coverage": self.coverage,
            "num_places": self.num_places,
            "num_withdrawn": self.num_withdrawn,
            "reasons": self.reasons,
            "texts": self.num_texts,
            "model_share": self.model_share,
        }


@dataclass(slots=True)
class Census:
    """Counts rows and picks examples; implements files.RowSink.

    The ids of the shown items and the segments are kept in memory.
    """

    scope: TextScope
    _num_users: int = 0
    _num_empty: int = 0
    _items: Counter[str] = field(default_factory=Counter)
    _reasons: Counter[ReasonKind] = field(default_factory=Counter)
    _readings: Counter[str] = field(default_factory=Counter)
    _shared: dict[str, str] = field(default_factory=dict)
    """Origin of each segment's or item's text."""
    _segments: Counter[str] = field(default_factory=Counter)
    _sampled: defaultdict[str, HashSample[str]] = field(
        default_factory=lambda: defaultdict(_users_of_segment)
    )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return

    def write(self, rows: Sequence[Row]) -> None:
        """Count the rows of a block."""
        for row in rows:
            self._num_users += 1
            self._num_empty += not row.items
            self._segments[row.segment] += 1
            if row.items:
                self._sampled[row.segment].add(row.user_id, row.user_id)
            for item in row.items:
                self._items[item.item_id] += 1
                self._reasons[item.ranked.reason.kind] += 1
                if item.text is not None:
                    self._readings[item.text.origin] += 1
                    self._shared[item.item_id] = item.text.origin
            if row.text is not None:
                self._readings[row.text.origin] += 1
                if self.scope is TextScope.SEGMENT:
                    self._shared[row.segment] = row.text.origin

    def _num_texts(self) -> Counter[str]:
        return self._readings if self.scope is TextScope.USER else Counter(self._shared.values())

    def segments(self) -> list[SegmentFigures]:
        """Return the segments, largest first."""
        ordered = sorted(self._segments.items(), key=lambda pair: (-pair[1], pair[0]))
        return [SegmentFigures(name=name, num_users=number) for name, number in ordered]

    def picked(self, segment: str) -> list[str]:
        """Return the ids of the users that the page shows as examples of a segment."""
        return self._sampled[segment].values() if segment in self._sampled else []

    def most_shown(self, limit: int) -> list[tuple[str, int]]:
        """Return the ids of the items that are on the most lists, each with the number of these lists."""
        return sorted(self._items.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]

    def figures(self, *, number: int, num_items: int, num_withdrawn: int) -> ReleaseFigures:
        """Return the figures of all rows so far."""
        return ReleaseFigures(
            number=number,
            num_users=self._num_users,
            num_users_without_items=self._num_empty,
            num_items=num_items,
            num_items_shown=len(self._items),
            num_places=sum(self._items.values()),
            num_withdrawn=num_withdrawn,
            reasons={kind.value: self._reasons[kind] for kind in ReasonKind},
            texts=dict(sorted(self._readings.items())),
            num_texts=dict(sorted(self._num_texts().items())),
        )
