"""Turns a column of dates into seconds since 1970 UTC, as jobs/instants.py does for single values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.instants import EARLIEST, DateOrder, parse_instant, possible_orders

MISSING = np.iinfo(np.int64).min
INVALID = MISSING + 1
AMBIGUOUS = MISSING + 2
"""Marks a numeric date for which nothing says which number is the month."""
EARLIEST_SECONDS = int(EARLIEST.timestamp())

_UNITS = (1e11, 1e14, 1e17, 1e20)
"""Upper limits of epoch seconds, milliseconds, microseconds and nanoseconds."""
_DATES = (19_000_000, 21_000_000)
"""Range of numbers that are read as dates, such as 20240131."""

Seconds = npt.NDArray[np.int64]


def seconds_of(column: pa.Array | None, num_rows: int, order: DateOrder | None = None) -> Seconds:
    """Return each row's seconds; MISSING if the cell is empty, INVALID or AMBIGUOUS if it is not a date."""
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
    found = np.where(usable, np.where(usable, seconds, 0), INVALID).astype(np.int64)
    # Data frames write a missing number as NaN.
    return _with_missing(column, np.where(np.isnan(numbers), MISSING, found))


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
