"""Makes blocks of users from partitions of events, with one partition in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from kinds.recommendation.catalogue.histories import Histories, as_block, histories, selected
from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.options import MAX_BLOCKS
from kinds.recommendation.catalogue.partitions import NUM_PARTS, Partitions
from kinds.recommendation.catalogue.robots import Robots


class Blocks:
    """Makes the blocks of an ingest once, and counts their contents."""

    def __init__(
        self,
        partitions: Partitions,
        catalogue_ids: Sequence[str],
        *,
        is_purchase: npt.NDArray[np.bool_],
        max_events: int,
        robots: Robots,
    ) -> None:
        """`catalogue_ids` are sorted; `is_purchase` is indexed by the number of the kind."""
        self._partitions = partitions
        self._catalogue_ids = catalogue_ids
        self._is_purchase = is_purchase
        self._max_events = max_events
        self._robots = robots
        self._has_interactions = np.zeros(len(catalogue_ids), dtype=bool)
        self.num_entries = 0
        self.num_users = 0
        """Users with at least one entry."""
        self.num_duplicates = 0
        self.num_users_cut = 0
        self.num_events_cut = 0

    @property
    def num_items(self) -> int:
        """Items that any user has interacted with so far."""
        return int(np.count_nonzero(self._has_interactions))

    def make(self, num_blocks: int) -> Iterator[UserBlock]:
        """Yield the blocks in order; `num_blocks` is a power of two."""
        parts_at_once = max(1, NUM_PARTS // num_blocks)
        blocks_at_once = max(1, num_blocks // NUM_PARTS)
        for number, begin in enumerate(range(0, NUM_PARTS, parts_at_once)):
            together = self._finish(range(begin, begin + parts_at_once))
            block = together.bits * num_blocks // MAX_BLOCKS
            for each in range(number * blocks_at_once, (number + 1) * blocks_at_once):
                chosen = selected(together, np.flatnonzero(block == each))
                yield as_block(chosen, self._catalogue_ids)

    def _finish(self, parts: range) -> Histories:
        made = histories(
            self._partitions.read(parts),
            is_purchase=self._is_purchase,
            max_events=self._max_events,
            robots=self._robots,
        )
        self._has_interactions[made.items] = True
        self.num_entries += len(made.items)
        self.num_users += len(made.user_ids)
        self.num_duplicates += made.num_duplicates
        self.num_users_cut += made.num_users_cut
        self.num_events_cut += made.num_events_cut
        return made
