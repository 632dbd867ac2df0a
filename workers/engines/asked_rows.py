"""The rows that requests wait for: equal rows are computed once and answered to all requests."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from workers.encoder import EncoderRequest, EncoderRow, Vector
from workers.engines.length_batches import LengthBatches


@dataclass(slots=True, eq=False)
class Flight:
    """A request between submit() and the end of its future."""

    request: EncoderRequest
    future: Future[tuple[Vector, ...]]
    answers: list[Vector | None]
    num_missing: int

    @property
    def is_over(self) -> bool:
        return self.future.done()


@dataclass(slots=True, eq=False)
class Asked:
    """A row that waits or is being computed, with all requests for it."""

    row: EncoderRow
    by: list[tuple[Flight, int]] = field(default_factory=list)

    @property
    def is_dead(self) -> bool:
        """Whether no request waits for it any more."""
        return all(flight.is_over for flight, _ in self.by)


class AskedRows:
    """The rows to compute, by length. Not thread-safe: the engine calls it under its lock."""

    def __init__(self, *, max_batch_tokens: int, step_tokens: int, num_lanes: int) -> None:
        self._batches: LengthBatches[Asked] = LengthBatches(
            max_batch_tokens=max_batch_tokens, step_tokens=step_tokens, num_lanes=num_lanes
        )
        self._asked: dict[EncoderRow, Asked] = {}

    def __len__(self) -> int:
        """Return the number of waiting rows."""
        return len(self._batches)

    def ask(self, flight: Flight) -> None:
        """Queue the rows of a request, except those that are already queued or being computed."""
        for place, row in enumerate(flight.request.rows):
            asked = self._asked.get(row)
            if asked is None:
                asked = self._asked[row] = Asked(row)
                self._batches.add(len(row.token_ids), asked)
            asked.by.append((flight, place))

    def take(self) -> list[Asked]:
        """Return the next batch of rows that some request waits for; empty if there is none."""
        while taken := self._batches.take():
            self.forget([asked for asked in taken if asked.is_dead])
            if batch := [asked for asked in taken if not asked.is_dead]:
                return batch
        return []

    def forget(self, some: Sequence[Asked]) -> None:
        """Remove rows that are answered; a later request for such a row has it computed again."""
        for asked in some:
            if self._asked.get(asked.row) is asked:
                del self._asked[asked.row]

    def drop_dead(self) -> None:
        """Remove the rows that no request waits for any more."""
        self._batches.drop(lambda asked: asked.is_dead)
        self._asked = {row: asked for row, asked in self._asked.items() if not asked.is_dead}
