"""CSV records with the physical line they begin at; a broken record costs only itself."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from jobs.dialect import Dialect
from jobs.intake_file import MAX_LINE_BYTES, Line

_MAX_CHARACTERS_AGAIN = 64 * MAX_LINE_BYTES
"""Read again after quotes that are never closed, besides four times the file: some seconds of work."""
_CHARACTERS_OF_LINE = 64
"""To hand over a line takes as long as to read so many characters."""


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """The cells of one record, or what is wrong with it."""

    line: int
    cells: list[str] = field(default_factory=list)
    code: str = ""
    """Empty, or `csv_malformed` or `body_too_large`."""
    reason: str = ""


class _RecordTooLargeError(Exception):
    """The record under way has passed MAX_LINE_BYTES."""


class _Feed:
    """Hands lines to csv.reader and keeps those of the record under way, so that they can be read again."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []
        self._num_characters = 0
        self._left = _MAX_CHARACTERS_AGAIN
        self.is_hopeless = False
        """So many quotes are never closed that the rest of the file is not read as records."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._again:
            line = self._again.popleft()
            self._left -= len(line.text) + _CHARACTERS_OF_LINE
            self.is_hopeless = self._left < 0
        else:
            line = next(self._lines)
            self._left += 4 * (len(line.text) + _CHARACTERS_OF_LINE)
        if self.is_hopeless:
            self.taken.append(line)
            raise _RecordTooLargeError
        self.taken.append(line)
        self._num_characters += len(line.text)
        if line.is_too_large or self._num_characters > MAX_LINE_BYTES:
            raise _RecordTooLargeError
        return line.text

    def accept(self) -> None:
        """The record is complete: forget its lines."""
        self.taken.clear()
        self._num_characters = 0

    def give_up(self) -> Line:
        """The record is broken: return its first line, and read the following ones again on their own."""
        first, *rest = self.taken
        self._again.extendleft(reversed(rest))
        self.accept()
        return first

    def refuse_rest(self) -> Iterator[CsvRecord]:
        """Every line that is left, as one that is not read."""
        reason = "follows too many lines that open a quote which is never closed"
        for line in chain(self._again, self._lines):
            yield CsvRecord(line.number, code="csv_malformed", reason=reason)


def read_csv_records(lines: Iterable[Line], dialect: Dialect) -> Iterator[CsvRecord]:
    """Stream the records of a CSV file (RFC 4180, in this dialect), blank lines included as empty records.

    A quote that is never closed would swallow the rest of the file: only the line that opens it is refused,
    and the lines after it are read again. Where that would take more than a few passes over the file, because
    each line opens such a quote, the lines that are left are refused, one by one, without being read.
    Memory: one record, at most MAX_LINE_BYTES.
    """
    # The csv module keeps its limit per process, at 131,072 characters; a record is bounded by the feed.
    csv.field_size_limit(MAX_LINE_BYTES + 1)
    feed = _Feed(lines)
    reader = dialect.reader(feed)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _RecordTooLargeError) as error:
            first = feed.give_up()
            yield _broken(first, error)
            if feed.is_hopeless:
                yield from feed.refuse_rest()
                return
            reader = dialect.reader(feed)
            continue
        first = feed.taken[0]
        feed.accept()
        yield CsvRecord(first.number, cells)


def _broken(first: Line, error: Exception) -> CsvRecord:
    if first.is_too_large or len(first.text) > MAX_LINE_BYTES:
        return CsvRecord(
            first.number, code="body_too_large", reason=f"has more than {MAX_LINE_BYTES:,} bytes"
        )
    if isinstance(error, _RecordTooLargeError) or "unexpected end of data" in str(error):
        return CsvRecord(first.number, code="csv_malformed", reason="opens a quote that is never closed")
    return CsvRecord(first.number, code="csv_malformed", reason=f"is not CSV: {error}")
