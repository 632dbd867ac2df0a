"""Rows of a log -> events of known items: checked column by column, by NumPy and Arrow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.catalogue.event_batches import EventBatch
from jobs.catalogue.item_maker import MAX_ID_CHARACTERS
from jobs.catalogue.kinds import Kinds
from jobs.catalogue.tally import Tally
from jobs.catalogue.times import EARLIEST_SECONDS, INVALID, MISSING, seconds_of
from jobs.catalogue.values import as_text
from jobs.documents.instants import MAX_AHEAD
from jobs.guards import find_secret
from jobs.intake_records import Record

MAX_WEIGHT = 1e6
"""Of one event; sums of them stay exact enough in 32 bits."""

_REASONS: tuple[tuple[str, str, str, str], ...] = (
    ("", "", "", ""),
    ("user_missing", "user", "names no user", "write the user's id, or leave the line out"),
    ("item_missing", "item", "names no item", "write the item's id, or leave the line out"),
    ("secret_in_input", "user", "seems to hold a secret", "remove it, and replace it where it is used"),
    ("field_invalid", "user", f"is no printable id of at most {MAX_ID_CHARACTERS} characters", "shorten it"),
    ("weight_invalid", "weight", f"is no positive number up to {MAX_WEIGHT:,.0f}", "correct it"),
    ("time_invalid", "time", "is no date that can be read", "write it as 2026-01-31T09:30:00Z"),
    ("time_implausible", "time", "lies before 1990", "correct the date, and check its unit"),
    ("in_future", "time", "lies in the future", "correct the date, and check its unit and time zone"),
    ("kind_ignored", "kind", "is of a kind with weight 0", "leave it so"),
    ("unknown_item", "item", "names an item that is not in the catalogue", "add the item, or leave it so"),
)
"""Code, field, reason and advice of what keeps an event out; the first that applies is counted."""
_NUMBER_OF = {reason[0]: number for number, reason in enumerate(_REASONS)}

_UNLISTED = frozenset({"kind_ignored"})
_NEEDLES = r"BEGIN |AKIA|ASIA|gh|glpat-|sk-|k_live_|AIza|xox|hf_"
"""One of them is in every secret that find_secret knows: only such ids are shown to it."""
_MAX_SHOWN = 1_000
"""Of an id of any length: what is looked through for secrets before its beginning is told."""
_UNPRINTABLE = r"[\x00-\x1f\x7f]"
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Events:
    """Events that count; the arrays have one entry an event."""

    users: pa.StringArray
    """Ids; `user` are positions in it."""
    user: Codes
    item: Codes
    """Positions in the ordered ids of the catalogue."""
    kind: npt.NDArray[np.int16]
    weight: npt.NDArray[np.float32]
    """Times that of its kind."""
    time: npt.NDArray[np.int64]
    """Seconds since 1970; 0 where there is none."""


class EventReader:
    """Makes events of batches of one file, and counts what is wrong. Not for several threads at once."""

    def __init__(
        self, path: Path, item_ids: Sequence[str], kinds: Kinds, now: datetime, tally: Tally
    ) -> None:
        self._path = path
        self._item_ids = pa.array(item_ids, pa.string())
        self._kinds = kinds
        self._latest = int((now + MAX_AHEAD).timestamp())
        self._tally = tally
        self.num_rows = 0
        self.num_timed = 0
        self.num_untimed = 0
        self.unknown_items: list[str] = []
        """The first few, for the error of files that do not belong together."""

    def read(self, batch: EventBatch) -> Events:
        """The events of a batch that count."""
        num_rows = len(batch.lines)
        self.num_rows += num_rows
        users, user = as_dictionary(batch.columns["user"])
        items, item = as_dictionary(batch.columns["item"])
        known = pc.fill_null(pc.index_in(items, self._item_ids), -1).to_numpy(zero_copy_only=False)[item]
        kind, kind_weight = self._kinds.read(batch.columns.get("kind"), num_rows)
        weight = _weights(batch.columns.get("weight"), num_rows)
        time = seconds_of(batch.columns.get("time"), num_rows)

        verdict = _user_verdicts(users)[user]
        _mark(verdict, "item_missing", _is_empty(items)[item])
        _mark(verdict, "weight_invalid", ~((weight > 0) & (weight <= MAX_WEIGHT)))
        _mark(verdict, "time_invalid", time == INVALID)
        _mark(verdict, "time_implausible", (time < EARLIEST_SECONDS) & (time != MISSING))
        _mark(verdict, "in_future", time > self._latest)
        _mark(verdict, "kind_ignored", kind_weight == 0)
        _mark(verdict, "unknown_item", known < 0)
        self._tell(batch, verdict, {"user": (users, user), "item": (items, item)})

        good = verdict == 0
        self._kinds.count(kind[good], self._tally)
        timed = int(np.count_nonzero(time[good] != MISSING))
        self.num_timed += timed
        self.num_untimed += int(np.count_nonzero(good)) - timed
        return Events(
            users=users,
            user=user[good],
            item=known[good].astype(np.int32),
            kind=kind[good],
            weight=(weight[good] * kind_weight[good]).astype(np.float32),
            time=np.where(time[good] == MISSING, 0, time[good]),
        )

    def _tell(
        self,
        batch: EventBatch,
        verdict: npt.NDArray[np.uint8],
        texts: dict[str, tuple[pa.StringArray, Codes]],
    ) -> None:
        counts = np.bincount(verdict, minlength=len(_REASONS))
        for number in np.flatnonzero(counts[1:]) + 1:
            code, field, reason, advice = _REASONS[number]
            self._tally.counts[code] += int(counts[number])
            if code in _UNLISTED:
                continue
            for row in np.flatnonzero(verdict == number)[: self._tally.room(code)]:
                text = None
                if field in texts:
                    ids, codes = texts[field]
                    text = ids[codes[row]].as_py()[:_MAX_SHOWN]
                if code == "unknown_item" and text is not None and len(self.unknown_items) < 3:
                    self.unknown_items += [text] if text not in self.unknown_items else []
                record = Record(str(self._path), int(batch.lines[row]), {})
                self._tally.list(record.reject(code, reason, advice, field, text))


def as_dictionary(column: pa.Array) -> tuple[pa.StringArray, Codes]:
    """A column's values as stripped texts, most of them once, and for each row the position of its own."""
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


def _is_empty(texts: pa.StringArray) -> npt.NDArray[np.bool_]:
    empty: npt.NDArray[np.bool_] = pc.equal(texts, "").to_numpy(zero_copy_only=False)
    return empty


def _mark(verdict: npt.NDArray[np.uint8], code: str, holds: npt.NDArray[np.bool_]) -> None:
    verdict[(verdict == 0) & holds] = _NUMBER_OF[code]


def _user_verdicts(users: pa.StringArray) -> npt.NDArray[np.uint8]:
    verdict = np.zeros(len(users), dtype=np.uint8)
    _mark(verdict, "user_missing", _is_empty(users))
    may_be_secret = pc.match_substring_regex(users, _NEEDLES).to_numpy(zero_copy_only=False)
    for position in np.flatnonzero(may_be_secret):
        if find_secret(users[int(position)].as_py()) is not None:
            verdict[position] = _NUMBER_OF["secret_in_input"]
    too_long = pc.greater(pc.utf8_length(users), MAX_ID_CHARACTERS).to_numpy(zero_copy_only=False)
    unprintable = pc.match_substring_regex(users, _UNPRINTABLE).to_numpy(zero_copy_only=False)
    _mark(verdict, "field_invalid", too_long | unprintable)
    return verdict


def _weights(column: pa.Array | None, num_rows: int) -> npt.NDArray[np.float64]:
    """1 where there is none, NaN where it is no number."""
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
