"""Kinds of events, with their weights and whether they are purchases or returns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.cells import as_text
from kinds.recommendation.catalogue.options import RETURN_KINDS, IntakeOptions
from kinds.recommendation.catalogue.tally import Tally

MAX_KINDS = 1_000
"""Maximum kinds of a log; all further kinds count as one."""


class Kinds:
    """Numbers the kinds of one log as they occur. It is not thread-safe."""

    def __init__(self, options: IntakeOptions) -> None:
        self._known = {name.strip().lower() for name in options.event_weights}
        self._purchases = {name.strip().lower() for name in options.purchase_kinds}
        self._given = {name.strip().lower(): weight for name, weight in options.event_weights.items()}
        bought = max((self._given.get(name, 1.0) for name in self._purchases), default=1.0)
        self._given = dict.fromkeys(RETURN_KINDS, bought) | self._given
        self._known |= RETURN_KINDS
        # Known kinds get their numbers before the log is read, so that its order does not matter.
        self._names = ["", *sorted(self._known | self._purchases)]
        self._numbers = {name: number for number, name in enumerate(self._names)}

    def read(
        self, column: pa.Array | None, num_rows: int
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
        """Return the number of each row's kind, 0 for none, and its weight."""
        if column is None:
            return np.zeros(num_rows, dtype=np.int16), np.ones(num_rows)
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        names = [(as_text(value) or "").lower() for value in encoded.dictionary.to_pylist()]
        numbers = np.array([*(self._number(name) for name in names), 0], dtype=np.int16)
        codes = encoded.indices.cast(pa.int32()).fill_null(len(names)).to_numpy(zero_copy_only=False)
        kind = numbers[codes]
        return kind, np.array([self._given.get(name, 1.0) for name in self._names])[kind]

    def count(self, kind: npt.NDArray[np.int16], tally: Tally) -> None:
        """Count events of unknown kinds."""
        counts = np.bincount(kind, minlength=len(self._names))
        unknown = sum(
            int(count)
            for name, count in zip(self._names, counts, strict=True)
            if name and name not in self._known
        )
        if unknown:
            tally.counts["unknown_kind"] += unknown

    @property
    def is_purchase(self) -> npt.NDArray[np.bool_]:
        """Whether each kind is a purchase, indexed by its number."""
        return np.array([name in self._purchases for name in self._names])

    @property
    def is_return(self) -> npt.NDArray[np.bool_]:
        """Whether each kind is a return, indexed by its number."""
        return np.array([name in RETURN_KINDS for name in self._names])

    def _number(self, name: str) -> int:
        if len(self._names) > MAX_KINDS and name not in self._known and name not in self._purchases:
            name = "(other)"
        if name not in self._numbers:
            self._numbers[name] = len(self._names)
            self._names.append(name)
        return self._numbers[name]
