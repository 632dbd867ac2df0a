"""Turns records of a file or in memory into validated payloads of any kind.

Each record is accepted or refused on its own.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Generic

from pydantic import ValidationError

from jobs.errors import InputError
from jobs.guards import (
    CONTROL_TOKENS,
    INJECTION_SUSPECTED,
    find_control_token,
    find_secret,
    invalid_unicode_at,
    is_injection_suspected,
    is_unsuspicious,
)
from jobs.intake.columns import ID_COLUMN, Columns
from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.intake.files import open_file
from jobs.intake.formats import Format
from jobs.intake.records import Fields, Items, Record, item_records, opened_records, parsed
from jobs.kind import Kind, PayloadT
from jobs.rejection import FileRejectedError, Refusal, Rejected, attempt, refuse_file, snippet
from jobs.validation import problem_of

MAX_ID_CHARACTERS = 200
"""Maximum length of an id. It becomes a file name at export, and file systems allow 255 bytes."""

ITEMS = Path("items")
"""Name for records in memory, used in messages in place of a file's path."""

__all__ = ["ITEMS", "Accepted", "FileRejectedError", "Items", "Rejected", "read_lines", "read_payloads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Generic[PayloadT]):
    """A line that can become a job."""

    line: int
    custom_id: str
    """Id of the line, or `line-N` if it has none; unique among the accepted lines of the file."""
    payload: PayloadT
    flags: tuple[str, ...] = ()
    """Contains `injection_suspected` if the text seems to give instructions to the model. The line is
    accepted nevertheless."""


Check = Callable[[Sequence[PayloadT]], Sequence[InputError | Refusal | None]]
"""Function that applies the caller's own rules. It returns, for each payload, why it is refused, or None."""

_CHECKED_LINES = 256
_CHECKED_CHARACTERS = 2**20
"""Numbers of lines and of characters. When the collected lines reach either number, they are checked
together, so that only a few lines are in memory."""


def read_lines(
    source: Path | Items,
    kind: Kind[PayloadT],
    *,
    control_tokens: tuple[str, ...] = CONTROL_TOKENS,
    check: Check[PayloadT] | None = None,
    options: FileOptions = AS_FOUND,
) -> Iterator[Accepted[PayloadT] | Rejected]:
    """Stream the lines of a CSV, JSONL or Parquet file, gzipped or not, in order; skip blank lines.

    Items in memory are checked like lines of JSONL, and their numbers are used as line numbers. `check` may
    refuse payloads, for example those that exceed the model's context length. Memory holds one record, or the
    few that are checked together, and about 20 bytes per accepted line, so that both lines of a duplicate id
    can be reported. Raises FileRejectedError, at any point of the iteration, for a file that is unusable as a
    whole. In that case, lines that were accepted before must not run either.
    """
    columns = Columns.of(kind.payload_type)
    yield from read_payloads(
        source if isinstance(source, Path) else ITEMS,
        _records(source, columns, options),
        lambda record: _validate(record, kind, columns),
        control_tokens=control_tokens,
        check=check,
    )


def read_payloads(
    path: Path,
    records: Iterable[Record | Rejected],
    make: Callable[[Record], PayloadT],
    *,
    control_tokens: tuple[str, ...] = CONTROL_TOKENS,
    check: Check[PayloadT] | None = None,
    id_column: str = ID_COLUMN,
) -> Iterator[Accepted[PayloadT] | Rejected]:
    """Turn a stream of records into payloads, like `read_lines`, for a kind whose columns are not fixed.

    `make` returns the payload of a record whose texts have been checked, or raises an InputError. `path` is
    the file of the records.
    """
    reader = _LineReader(make, control_tokens, check, id_column)
    num_records = 0
    try:
        for record in records:
            num_records += 1
            reader.add(record)
            if reader.is_full:
                yield from reader.take()
    except Exception:
        yield from reader.take()
        raise
    yield from reader.take()
    if num_records == 0:
        raise refuse_file(path, "file_empty", "contains no records", "write one line for each record")


@dataclass(frozen=True, slots=True)
class _Candidate(Generic[PayloadT]):
    """A line that is accepted unless the caller's check refuses it or its id is taken."""

    record: Record
    custom_id: str
    payload: PayloadT
    flags: tuple[str, ...]


class _LineReader(Generic[PayloadT]):
    """Validates records one by one, and checks the payloads of a few lines together."""

    def __init__(
        self,
        make: Callable[[Record], PayloadT],
        control_tokens: tuple[str, ...],
        check: Check[PayloadT] | None,
        id_column: str,
    ) -> None:
        self._make = make
        self._control_tokens = control_tokens
        self._check = check
        self._id_column = id_column
        self._lines_by_id = LinesById()
        self._judged: list[_Candidate[PayloadT] | Rejected] = []
        self._num_characters = 0

    @property
    def is_full(self) -> bool:
        """Whether enough lines have been collected to check them together; if so, call `take`."""
        return (
            self._check is None
            or len(self._judged) >= _CHECKED_LINES
            or self._num_characters >= _CHECKED_CHARACTERS
        )

    def add(self, record: Record | Rejected) -> None:
        """Validate a record, and keep the result for `take`."""
        if isinstance(record, Rejected):
            self._judged.append(record)
            return
        judged = attempt(self._judge, record)
        self._judged.append(record.reject_unreadable(judged) if isinstance(judged, Refusal) else judged)

    def _judge(self, record: Record) -> _Candidate[PayloadT] | Rejected:
        text = record.text()
        self._num_characters += len(text)
        try:
            flags = _check_text(record, text, self._control_tokens)
            return _Candidate(record, _custom_id(record, self._id_column), self._make(record), flags)
        except _LineRefusedError as refused:
            return refused.rejected
        except InputError as error:
            return record.reject(error.code, str(error), "correct the line")

    def take(self) -> Iterator[Accepted[PayloadT] | Rejected]:
        """Check the lines that were collected so far, and yield them in order."""
        judged, self._judged, self._num_characters = self._judged, [], 0
        refusals: Iterator[InputError | Refusal | None] = repeat(None)
        if self._check is not None:
            refusals = iter(self._check([line.payload for line in judged if isinstance(line, _Candidate)]))
        for line in judged:
            yield line if isinstance(line, Rejected) else self._accept(line, next(refusals))

    def _accept(
        self, line: _Candidate[PayloadT], refusal: InputError | Refusal | None
    ) -> Accepted[PayloadT] | Rejected:
        record = line.record
        if isinstance(refusal, InputError):
            return record.reject(refusal.code, str(refusal), "correct the line")
        if refusal is not None:
            return record.reject_unreadable(refusal)
        duplicate = self._lines_by_id.claim(line.custom_id, record)
        return duplicate or Accepted(
            line=record.line, custom_id=line.custom_id, payload=line.payload, flags=line.flags
        )


def _records(source: Path | Items, columns: Columns, options: FileOptions) -> Iterator[Record | Rejected]:
    """Yield the records with the names of fields as keys. Cells of CSV become values as in JSON."""
    field_of = lru_cache(maxsize=1_000)(columns.field_of)

    def named(name: str, record: Fields | Rejected) -> Record | Rejected:
        if isinstance(record, Rejected):
            return record
        line, values = record
        fields = {field_of(column): value for column, value in values.items()}
        if len(fields) < len(values):
            advice = "remove one of the two"
            return Record(name, line, {}).reject("duplicate_column", "has a column twice", advice)
        return Record(name, line, fields)

    if not isinstance(source, Path):
        yield from (named(str(ITEMS), record) for record in item_records(str(ITEMS), source))
        return
    path = str(source)
    with open_file(source, options) as file:
        is_csv = file.format is Format.CSV
        for unparsed in opened_records(file, columns.require):
            record = named(path, unparsed if isinstance(unparsed, Rejected) else parsed(path, unparsed))
            if is_csv and isinstance(record, Record):
                record = Record(path, record.line, _from_cells(record.fields, columns))
            yield record


def _from_cells(fields: dict[str, object], columns: Columns) -> dict[str, object]:
    texts = {name: str(cell).strip().replace("\r\n", "\n") for name, cell in fields.items()}
    return {name: _parts(text) if name in columns.lists else text for name, text in texts.items() if text}


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


class _LineRefusedError(Exception):
    def __init__(self, rejected: Rejected) -> None:
        super().__init__(str(rejected))
        self.rejected = rejected


def _check_text(record: Record, whole: str, control_tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Return the flags of the record; `whole` has all of its strings.

    Raises _LineRefusedError if one of its strings contains invalid Unicode, a secret or a control token.
    """
    if is_unsuspicious(whole, control_tokens):  # true of nearly every record, and found in one pass
        return ()
    flags: tuple[str, ...] = ()
    for column, text in record.strings():
        if (at := invalid_unicode_at(text)) is not None:
            raise _LineRefusedError(record.reject_unicode(text, at, column))
        if (secret := find_secret(text)) is not None:
            raise _LineRefusedError(record.reject_secret(secret, column))
        if (token := find_control_token(text, control_tokens)) is not None:
            reason = f"contains the model's control token {token}"
            advice = "remove it, or write it with spaces"
            raise _LineRefusedError(record.reject("input_control_token", reason, advice, column, text))
        if is_injection_suspected(text):
            flags = (INJECTION_SUSPECTED,)
    return flags


def _custom_id(record: Record, id_column: str) -> str:
    value = record.fields.get(id_column)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None:
        return f"line-{record.line}"
    if not isinstance(value, str) or len(value) > MAX_ID_CHARACTERS or not value.isprintable():
        reason = f"is not a printable text of at most {MAX_ID_CHARACTERS} characters"
        raise _LineRefusedError(record.reject("field_invalid", reason, "shorten the id", id_column))
    return value.strip() or f"line-{record.line}"


class LinesById:
    """The line of each id, in 15 bytes per id. A dictionary of a million ids would take 160 MB."""

    _KEY_BYTES = 10
    _ENTRY_BYTES = 15

    def __init__(self) -> None:
        self._salt = os.urandom(16)  # so that no file can put all of its ids into one bucket
        self._buckets: defaultdict[bytes, bytearray] = defaultdict(bytearray)

    def setdefault(self, custom_id: str, line: int) -> int:
        """Return the line that has claimed the id already; otherwise claim it for this line."""
        size = 2 + self._KEY_BYTES
        digest = hashlib.blake2b(custom_id.encode(), digest_size=size, salt=self._salt).digest()
        bucket, key = self._buckets[digest[:2]], digest[2:]
        at = bucket.find(key)
        while at >= 0 and at % self._ENTRY_BYTES:
            at = bucket.find(key, at + 1)
        if at < 0:
            bucket += key + line.to_bytes(self._ENTRY_BYTES - self._KEY_BYTES)
            return line
        return int.from_bytes(bucket[at + self._KEY_BYTES : at + self._ENTRY_BYTES])

    def claim(self, custom_id: str, record: Record) -> Rejected | None:
        """Claim the id for a record. Return the rejection of the record if an earlier line has the id."""
        first = self.setdefault(custom_id, record.line)
        if first == record.line:
            return None
        shown = repr(name) if (name := snippet(custom_id)) else "an id that is not shown"
        reason = f"{shown} is used in line {first} and again in line {record.line}"
        return record.reject("duplicate_id", reason, "give each line its own id", ID_COLUMN)


def _validate(record: Record, kind: Kind[PayloadT], columns: Columns) -> PayloadT:
    fields = {name: value for name, value in record.fields.items() if name != ID_COLUMN and value is not None}
    try:
        return kind.payload_type.model_validate(fields)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    column = str(first["loc"][0]) if first["loc"] else None
    code, advice = _CODES.get(first["type"], "field_invalid"), columns.advice(column)
    reason = problem_of(first)
    # This is the path within a column with an object or a list. Its keys come from the file, so they are
    # checked like any text.
    if inner := snippet(".".join(str(part) for part in first["loc"][1:])):
        reason = f"{inner}: {reason}"
    if code == "unknown_column":
        reason, advice = "is not a known column", columns.suggest(column or "")
    if len(problems) > 1:
        others = sorted({str(p["loc"][0]) for p in problems[1:] if p["loc"]} - {column})
        reason += f" (also invalid: {', '.join(others)})" if others else ""
    shown = record.fields.get(column) if column else None
    raise _LineRefusedError(
        record.reject(code, reason, advice, column, shown if isinstance(shown, str) else None)
    )


_CODES = {
    "missing": "missing_column",
    "missing_column": "missing_column",
    "extra_forbidden": "unknown_column",
}
"""Codes of rejections by pydantic's error types. All other types have the code `field_invalid`."""
