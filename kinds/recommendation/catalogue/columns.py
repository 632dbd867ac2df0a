"""Parses the columns of a log as arrays: ids, kinds of events, weights and times."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.instants import EARLIEST, DateOrder, parse_instant, possible_orders
from jobs.intake.values import as_text
from kinds.recommendation.catalogue.inputs import RETURN_KINDS, IntakeOptions
from kinds.recommendation.catalogue.tally import Tally

MAX_KINDS = 1_000
"""Maximum number of kinds of events in a log; all further kinds count as one."""

MISSING = np.iinfo(np.int64).min
INVALID = MISSING + 1
AMBIGUOUS = MISSING + 2
"""Marks a numeric date whose order of day and month is unknown."""
EARLIEST_SECONDS = int(EARLIEST.timestamp())

_UNITS = (1e11, 1e14, 1e17, 1e20)
"""Upper limits of numbers that are read as epoch seconds, milliseconds, microseconds and nanoseconds."""
_DATES = (19_000_000, 21_000_000)
"""Range of numbers that are read as dates, such as 20240131."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")

Codes = npt.NDArray[np.int32]
Seconds = npt.NDArray[np.int64]


def as_dictionary(column: pa.Array) -> tuple[pa.StringArray, Codes]:
    """Return a column's values as stripped strings, and the position of each row's value among them.

    A string may occur twice, because values are distinct only before they are stripped.
    """
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values, indices = encoded.dictionary, encoded.indices
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
    elif pa.types.is_integer(values.type):
        texts = values.cast(pa.string())
    else:
        texts = pa.array([as_text(value) or "" for value in values.to_pylist()], pa.string())
    texts = pa.concat_arrays([pc.fill_null(texts, ""), pa.array([""], pa.string())])
    codes = pc.fill_null(indices.cast(pa.int32()), len(texts) - 1)
    return texts, codes.to_numpy(zero_copy_only=False)


class EventKinds:
    """Assigns a number to each kind of event in one log, and holds the kinds' weights.

    Known kinds have numbers from the start; any other kind gets one when it first occurs. It is not
    thread-safe.
    """

    def __init__(self, options: IntakeOptions) -> None:
        self._known = {name.strip().lower() for name in options.event_weights}
        self._purchases = {name.strip().lower() for name in options.purchase_kinds}
        self._weights = {name.strip().lower(): weight for name, weight in options.event_weights.items()}
        bought = max((self._weights.get(name, 1.0) for name in self._purchases), default=1.0)
        self._weights = dict.fromkeys(RETURN_KINDS, bought) | self._weights
        self._known |= RETURN_KINDS
        # Known kinds get their numbers before the log is read, so that its order does not matter.
        self._names = ["", *sorted(self._known | self._purchases)]
        self._numbers = {name: number for number, name in enumerate(self._names)}

    def read(
        self, column: pa.Array | None, num_rows: int
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
        """Return each row's kind as a number, which is 0 for a row without a kind, and the kind's weight."""
        if column is None:
            return np.zeros(num_rows, dtype=np.int16), np.ones(num_rows)
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        names = [(as_text(value) or "").lower() for value in encoded.dictionary.to_pylist()]
        numbers = np.array([*(self._number(name) for name in names), 0], dtype=np.int16)
        codes = encoded.indices.cast(pa.int32()).fill_null(len(names)).to_numpy(zero_copy_only=False)
        kind = numbers[codes]
        return kind, np.array([self._weights.get(name, 1.0) for name in self._names])[kind]

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
        """Boolean array, indexed by the number of a kind: True for a purchase."""
        return np.array([name in self._purchases for name in self._names])

    @property
    def is_return(self) -> npt.NDArray[np.bool_]:
        """Boolean array, indexed by the number of a kind: True for a return."""
        return np.array([name in RETURN_KINDS for name in self._names])

    def _number(self, name: str) -> int:
        if len(self._names) > MAX_KINDS and name not in self._known and name not in self._purchases:
            name = "(other)"
        if name not in self._numbers:
            self._numbers[name] = len(self._names)
            self._names.append(name)
        return self._numbers[name]


def weights_of(column: pa.Array | None, num_rows: int) -> npt.NDArray[np.float64]:
    """Return each row's weight: 1 if the cell is empty, and NaN if it is not a number."""
    if column is None:
        return np.ones(num_rows)
    if (
        pa.types.is_floating(column.type)
        or pa.types.is_integer(column.type)
        or pa.types.is_decimal(column.type)
    ):
        numbers: npt.NDArray[np.float64] = pc.fill_null(column.cast(pa.float64()), 1.0).to_numpy(
            zero_copy_only=False
        )
        return numbers
    texts, codes = as_dictionary(column)
    try:
        values = pc.if_else(pc.equal(texts, ""), "1", texts).cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        values = np.array([_number(text) for text in texts.to_pylist()])
    by_row: npt.NDArray[np.float64] = values[codes]
    return by_row


def _number(text: str) -> float:
    if not text:
        return 1.0
    return float(text) if _NUMBER.fullmatch(text) else float("nan")


def seconds_of(column: pa.Array | None, num_rows: int, order: DateOrder | None = None) -> Seconds:
    """Return each row's time in seconds since 1970.

    It is MISSING if the cell is empty, AMBIGUOUS if the order of day and month is unknown, and INVALID if
    the cell is not a date.
    """
    if column is None:
        return np.full(num_rows, MISSING)
    kind = column.type
    if pa.types.is_dictionary(kind):
        values, indices = column.dictionary, column.indices.cast(pa.int32())
        by_code = np.append(seconds_of(values, len(values), order), MISSING)
        codes = pc.fill_null(indices, len(values)).to_numpy(zero_copy_only=False)
        by_row: Seconds = by_code[codes]
        return by_row
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _of_timestamps(column)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return _of_numbers(column.cast(pa.float64()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _of_texts(pc.utf8_trim_whitespace(column), order)
    return _by_one(column)


def _of_timestamps(column: pa.Array) -> Seconds:
    unit = pa.timestamp("us", getattr(column.type, "tz", None))
    try:
        micros = column.cast(unit, safe=False).cast(pa.int64())
    except pa.ArrowInvalid:
        return _by_one(column)
    seconds: Seconds = pc.fill_null(micros, 0).to_numpy(zero_copy_only=False) // 1_000_000
    return _with_missing(column, seconds)


def _of_numbers(column: pa.Array) -> Seconds:
    numbers = pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False)
    size = np.abs(numbers)
    unit = np.select([size < end for end in _UNITS], [1.0, 1e3, 1e6, 1e9], np.nan)
    with np.errstate(invalid="ignore"):
        seconds = np.floor(numbers / unit)
    is_date = (numbers >= _DATES[0]) & (numbers < _DATES[1]) & (numbers == np.floor(numbers))
    for date in np.unique(numbers[is_date]):
        instant = parse_instant(float(date))
        seconds[numbers == date] = np.nan if instant is None else instant.timestamp()
    usable = np.isfinite(seconds)
    whole = np.where(usable, np.where(usable, seconds, 0), INVALID).astype(np.int64)
    # Data frames write a missing number as NaN.
    return _with_missing(column, np.where(np.isnan(numbers), MISSING, whole))


def _of_texts(column: pa.Array, order: DateOrder | None) -> Seconds:
    texts = pc.if_else(pc.equal(column, ""), None, column)
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us"), pa.float64()):
        try:
            parsed = texts.cast(kind)
        except pa.ArrowInvalid:
            continue
        if not pa.types.is_floating(kind):
            return _of_timestamps(parsed)
        return (
            _of_numbers(parsed)
            if pc.all(pc.is_finite(parsed)).as_py() is not False
            else _by_one(texts, order)
        )
    return _by_one(texts, order)


def _by_one(column: pa.Array, order: DateOrder | None = None) -> Seconds:
    encoded = column.dictionary_encode()
    seconds = [_second(value, order) for value in encoded.dictionary.to_pylist()]
    codes = pc.fill_null(encoded.indices, len(seconds)).to_numpy(zero_copy_only=False)
    by_row: Seconds = np.array([*seconds, MISSING])[codes]
    return by_row


def _second(value: object, order: DateOrder | None) -> int:
    instant = parse_instant(value, order)
    if instant is not None:
        return int(instant.timestamp() // 1)
    return AMBIGUOUS if isinstance(value, str) and possible_orders(value) else INVALID


def _with_missing(column: pa.Array, seconds: Seconds) -> Seconds:
    if column.null_count:
        seconds = np.where(column.is_null().to_numpy(zero_copy_only=False), MISSING, seconds)
    return seconds
