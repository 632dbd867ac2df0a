"""Turns the rows of a log into events of known items. NumPy and Arrow check the rows column by column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.guards import find_secret
from jobs.instants import MAX_AHEAD, order_of_column
from jobs.intake.records import Record
from kinds.recommendation.catalogue.columns import (
    AMBIGUOUS,
    EARLIEST_SECONDS,
    INVALID,
    MISSING,
    Codes,
    EventKinds,
    Seconds,
    as_dictionary,
    seconds_of,
    weights_of,
)
from kinds.recommendation.catalogue.event_batches import EventBatch, event_batches
from kinds.recommendation.catalogue.inputs import IntakeOptions, MatchIds
from kinds.recommendation.catalogue.item_reader import MAX_ID_CHARACTERS
from kinds.recommendation.catalogue.tally import Tally

MAX_WEIGHT = 1e6
"""Maximum weight of one event, so that sums stay exact enough in 32 bits."""

_REASONS: tuple[tuple[str, str, str, str], ...] = (
    ("", "", "", ""),
    ("user_missing", "user", "names no user", "write the user's id, or remove the line"),
    ("item_missing", "item", "names no item", "write the item's id, or remove the line"),
    (
        "secret_in_input",
        "user",
        "seems to contain a secret",
        "remove it here, and replace the secret wherever it is used",
    ),
    (
        "field_invalid",
        "user",
        f"is not a printable id of at most {MAX_ID_CHARACTERS} characters",
        "shorten it",
    ),
    (
        "weight_invalid",
        "weight",
        f"is not a positive number up to {MAX_WEIGHT:,.0f}",
        "correct it, or map the column as quantity, where a negative number means a return",
    ),
    ("quantity_invalid", "quantity", f"is 0, or not a number up to {MAX_WEIGHT:,.0f}", "correct it"),
    ("time_invalid", "time", "is not a date that can be read", "write it as 2026-01-31T09:30:00Z"),
    (
        "date_ambiguous",
        "time",
        "is ambiguous: neither the date nor the rest of the column shows which number is the month",
        "give --date-format day-first or month-first",
    ),
    ("time_implausible", "time", "is before 1990", "correct the date, and check its unit"),
    ("in_future", "time", "is in the future", "correct the date, and check its unit and time zone"),
    ("kind_ignored", "kind", "is of a kind with weight 0", "no action is needed"),
    (
        "unknown_item",
        "item",
        "names an item that is not in the catalogue",
        "add the item to the catalogue, or ignore this",
    ),
)
"""Code, field, reason and advice for each cause of rejection. Only one cause is counted for an event."""
_NUMBER_OF = {reason[0]: number for number, reason in enumerate(_REASONS)}

_CODES = {"date_ambiguous": "time_invalid"}
"""Codes under which some entries of _REASONS are reported, instead of their own."""

_UNLISTED = frozenset({"kind_ignored"})
_NEEDLES = r"BEGIN |AKIA|ASIA|gh|glpat-|sk-|k_live_|AIza|xox|hf_"
"""Matches every secret that find_secret recognises, so that only ids that match are passed to find_secret."""
_MAX_SHOWN = 1_000
"""Number of characters of an id that are checked for secrets before the id's beginning is reported."""
_UNPRINTABLE = r"[\x00-\x1f\x7f]"
_DECIMAL_ID = r"^([0-9]+)\.0+$"

_DECIMALS = re.compile(r"(?<=[0-9])\.0+$")
_SPACES = re.compile(r"\s+")

_DIFFERENCES: Mapping[str, Callable[[str], str]] = {
    "leading zeros": lambda text: text.lstrip("0") or "0",
    'a ".0" at the end': lambda text: _DECIMALS.sub("", text),
    "case": lambda text: text.casefold(),
    "spaces": lambda text: _SPACES.sub("", text),
}


@dataclass(frozen=True, slots=True)
class Events:
    """Accepted events; each array except `users` has one entry per event."""

    users: pa.StringArray
    """User ids; `user` contains the position of each event's user in this array."""
    user: Codes
    item: Codes
    """Position of each event's item in the ordered ids of the catalogue."""
    kind: npt.NDArray[np.int16]
    weight: npt.NDArray[np.float32]
    """Weight of the event times the weight of its kind; negative for a return."""
    time: npt.NDArray[np.int64]
    """Seconds since 1970; 0 if the event has no time."""


class EventReader:
    """Turns batches of one file into events and counts rejected rows. It is not thread-safe."""

    def __init__(
        self,
        path: Path,
        item_ids: Sequence[str],
        kinds: EventKinds,
        options: IntakeOptions,
        now: datetime,
        tally: Tally,
    ) -> None:
        self._path = path
        self._options = options
        self._order = options.date_order
        self._is_order_detected = options.date_order is not None
        self._item_ids = pa.array(item_ids, pa.string())
        self._positions: dict[str, int] | None = None
        self._kinds = kinds
        self._latest = int((now + MAX_AHEAD).timestamp())
        self._tally = tally
        self.num_rows = 0
        self.num_timed = 0
        self.num_untimed = 0
        self.unknown_items: list[str] = []
        """Ids of at most three unknown items, for the error about files that do not belong together."""
        self.near_misses = NearMisses(item_ids)
        self.user_example: str | None = None
        """First user id that was written as a decimal number, such as 17850.0."""

    def read(self, batch: EventBatch) -> Events:
        """Return the accepted events of a batch."""
        num_rows = len(batch.lines)
        self.num_rows += num_rows
        users, user = as_dictionary(batch.columns["user"])
        users = self._without_decimals(users)
        items, item = as_dictionary(batch.columns["item"])
        known = self._known(items, item)[item]
        kind, kind_weight = self._kinds.read(batch.columns.get("kind"), num_rows)
        weight = weights_of(batch.columns.get("weight"), num_rows)
        quantity = weights_of(batch.columns.get("quantity"), num_rows)
        time = self._seconds(batch.columns.get("time"), num_rows)

        verdict = _user_verdicts(users)[user]
        _mark(verdict, "item_missing", _is_empty(items)[item])
        _mark(verdict, "weight_invalid", ~((weight > 0) & (weight <= MAX_WEIGHT)))
        _mark(verdict, "quantity_invalid", ~((quantity != 0) & (np.abs(quantity) <= MAX_WEIGHT)))
        self._mark_times(verdict, time)
        _mark(verdict, "kind_ignored", kind_weight == 0)
        _mark(verdict, "unknown_item", known < 0)
        self._report(batch, verdict, {"user": (users, user), "item": (items, item)})

        good = verdict == 0
        self._kinds.count(kind[good], self._tally)
        is_return = (quantity < 0) | self._kinds.is_return[kind]
        if "weight" not in batch.columns:
            weight = np.abs(quantity)
        weight = np.where(is_return, -weight, weight)
        if num_returns := int(np.count_nonzero(is_return & good)):
            self._tally.counts["returned"] += num_returns
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

    def _mark_times(self, verdict: npt.NDArray[np.uint8], time: Seconds) -> None:
        _mark(verdict, "time_invalid", time == INVALID)
        _mark(verdict, "date_ambiguous", time == AMBIGUOUS)
        _mark(verdict, "time_implausible", (time < EARLIEST_SECONDS) & (time != MISSING))
        _mark(verdict, "in_future", time > self._latest)

    def _without_decimals(self, users: pa.StringArray) -> pa.StringArray:
        """Return ids without the ".0" that a column of decimals adds: "17850.0" becomes "17850"."""
        is_decimal = pc.match_substring_regex(users, _DECIMAL_ID)
        if not pc.any(is_decimal).as_py():
            return users
        self.user_example = self.user_example or users.filter(is_decimal)[0].as_py()
        return pc.replace_substring_regex(users, _DECIMAL_ID, r"\1")

    def _known(self, items: pa.StringArray, item: Codes) -> npt.NDArray[np.int64]:
        """Return each id's position in the catalogue, or -1 for an unknown id.

        An id that differs from a catalogue id only in spelling is recorded as a near miss; with
        MatchIds.LOOSE, it matches instead.
        """
        known: npt.NDArray[np.int64] = (
            pc.fill_null(pc.index_in(items, self._item_ids), -1)
            .to_numpy(zero_copy_only=False)
            .astype(np.int64)
        )
        is_matched = self._options.match_ids is MatchIds.LOOSE
        counts = np.bincount(item, minlength=len(known))
        for position in np.flatnonzero((known < 0) & (counts > 0)):
            text = items[int(position)].as_py()
            nearest = self.near_misses.find(text) if text else None
            if nearest is None:
                continue
            if is_matched:
                known[position] = self._place(nearest)
            else:
                self.near_misses.note(text, nearest, int(counts[position]))
        return known

    def _place(self, item_id: str) -> int:
        if self._positions is None:
            self._positions = {each: place for place, each in enumerate(self._item_ids.to_pylist())}
        return self._positions[item_id]

    def _seconds(self, column: pa.Array | None, num_rows: int) -> Seconds:
        """Return the times; if a date is ambiguous, the whole column decides the order of day and month."""
        seconds = seconds_of(column, num_rows, self._order)
        if not self._is_order_detected and np.any(seconds == AMBIGUOUS):
            self._is_order_detected = True
            self._order = order_of_column(self._dates())
            seconds = seconds_of(column, num_rows, self._order)
        return seconds

    def _dates(self) -> Iterator[object]:
        """Yield the values of the time column, from the beginning of the file."""
        for batch in event_batches(
            self._path, self._options.interaction_columns, Tally(), self._options.file_options()
        ):
            if "time" in batch.columns:
                yield from pc.unique(batch.columns["time"]).to_pylist()

    def _report(
        self,
        batch: EventBatch,
        verdict: npt.NDArray[np.uint8],
        texts: dict[str, tuple[pa.StringArray, Codes]],
    ) -> None:
        counts = np.bincount(verdict, minlength=len(_REASONS))
        for number in np.flatnonzero(counts[1:]) + 1:
            name, field, reason, advice = _REASONS[number]
            code = _CODES.get(name, name)
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


def loose_id(text: str) -> str:
    """Return an id without the differences that spreadsheets and exports cause.

    >>> loose_id("00123"), loose_id("123.0"), loose_id(" ab 1"), loose_id("AB1")
    ('123', '123', 'ab1', 'ab1')
    """
    for plain in _DIFFERENCES.values():
        text = plain(text)
    return text


@dataclass(slots=True)
class NearMisses:
    """Ids of a log that differ only in spelling from an id of the catalogue."""

    catalogue_ids: Iterable[str]
    num_events: int = 0
    _examples: dict[str, tuple[str, str]] = field(default_factory=dict)
    _by_loose_id: dict[str, str | None] | None = None

    def find(self, text: str) -> str | None:
        """Return the catalogue id that differs from this id only in spelling.

        The result is None if there is no such id, or more than one.
        """
        if self._by_loose_id is None:
            self._by_loose_id = {}
            for catalogue_id in self.catalogue_ids:
                key = loose_id(catalogue_id)
                self._by_loose_id[key] = None if key in self._by_loose_id else catalogue_id
        return self._by_loose_id.get(loose_id(text))

    def note(self, text: str, catalogue_id: str, num_events: int) -> None:
        """Count the events with a near miss, and keep one example of each difference."""
        self.num_events += num_events
        differences = (name for name, plain in _DIFFERENCES.items() if plain(text) == plain(catalogue_id))
        self._examples.setdefault(next(differences, "several of these"), (text, catalogue_id))

    def __str__(self) -> str:
        """Return a description with examples, or an empty string if there are no near misses."""
        if not self._examples:
            return ""
        differences = ", ".join(
            f"{name} ({text!r} in the log, {catalogue_id!r} in the catalogue)"
            for name, (text, catalogue_id) in self._examples.items()
        )
        return f"{self.num_events:,} events name items that differ from the catalogue's only in {differences}"
