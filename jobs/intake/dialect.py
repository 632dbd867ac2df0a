"""Finds the dialect of a CSV file, which is given, announced by a line `sep=;`, or detected."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""Delimiters that can be detected, the most common one first, with their names in messages."""

_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "bar": "|", "pipe": "|", "space": " "}
_MAX_SAMPLE_RECORDS = 500
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<delimiter>[^"\r\n])"?[,;\t]{0,100}\r?\n?', re.IGNORECASE)
_MONEY = r"(?:[$€£¥]|[A-Za-z]{3})?"
_COMMA_NUMBER = re.compile(
    rf"{_MONEY}\s?[+-]?(?:\d{{1,3}}(?:\.\d{{3}})+|\d{{1,15}})(?:,\d{{1,15}})?\s?%?\s?{_MONEY}"
)
_MAX_NUMBER_CHARACTERS = 60


def _ignore(_line: str) -> None:
    """Discard the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """Options for reading a file of records. Options that are None are detected from the file."""

    delimiter: str | None = None
    encoding: str | None = None
    """Name of the encoding, as returned by jobs.intake.formats.check_encoding."""
    decimal: str | None = None
    """Decimal sign: a point or a comma."""
    tell: Callable[[str], None] = field(default=_ignore, compare=False)
    """Function that receives a line about how a file is read. It is called for each opened file with a
    dialect other than plain CSV or an encoding other than UTF-8."""

    def quietly(self) -> FileOptions:
        """Return the same options, but with a `tell` that discards all lines."""
        return replace(self, tell=_ignore)

    def given(self) -> dict[str, str | None]:
        """Return the options in the form of settings that can be stored."""
        return {"delimiter": self.delimiter, "encoding": self.encoding, "decimal": self.decimal}


AS_FOUND = FileOptions()


class DialectError(ValueError):
    """A text is not a usable delimiter or decimal sign."""


def parse_delimiter(text: str) -> str:
    """Parse a delimiter, given as one character or by name.

    >>> parse_delimiter("tab"), parse_delimiter(";")
    ('\\t', ';')
    """
    delimiter = _NAMES.get(text.lower(), text)
    if len(delimiter) != 1 or delimiter in '"\r\n\0' or delimiter.isalnum():
        raise DialectError(f"{text[:40]!r} is not a delimiter: use a single character, such as ';', or tab")
    return delimiter


def parse_decimal(text: str) -> str:
    """Parse a decimal sign, given as a point, a comma or by name.

    >>> parse_decimal("comma")
    ','
    """
    decimal = {"point": ".", "dot": ".", "comma": ","}.get(text.lower(), text)
    if decimal not in (".", ","):
        raise DialectError(f"{text[:40]!r} is not a decimal sign: use '.' or ','")
    return decimal


@dataclass(frozen=True, slots=True)
class Dialect:
    """The dialect of a CSV file: how its cells are separated and quoted."""

    delimiter: str = ","
    escape: str | None = None
    """Escape character: a backslash if quotes within cells are written as \\"; None if they are doubled."""
    skips_space: bool = False
    """Whether a space between a delimiter and a quote is skipped, as in `a, "b"`."""
    decimal: str = "."
    """Decimal sign: a comma if it was given, or detected in a column of numbers; otherwise a point."""
    comma_numbers: frozenset[int] = frozenset()
    """Positions, from 0, of columns of numbers with decimal commas."""
    groups_points: frozenset[int] = frozenset()
    """Positions, from 0, of those columns in `comma_numbers` in which points separate thousands."""

    @property
    def is_plain(self) -> bool:
        """Whether any RFC 4180 reader can read the file if it knows the delimiter."""
        return self.escape is None and not self.skips_space

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Return a csv.reader for this dialect. It raises csv.Error for a malformed record."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            doublequote=self.escape is None,
            escapechar=self.escape,
            skipinitialspace=self.skips_space,
            strict=True,
        )

    def plain_cells(self, cells: list[str]) -> list[str]:
        """Replace decimal commas with points in the cells, and return them."""
        for position in self.comma_numbers:
            if position < len(cells):
                cells[position] = self.plain_number(cells[position], position)
        return cells

    def plain_number(self, text: str, position: int) -> str:
        """Return a number with a decimal point instead of a decimal comma, and without points between
        thousands.

        Any other text is returned unchanged.
        """
        if len(text) > _MAX_NUMBER_CHARACTERS or not _COMMA_NUMBER.fullmatch(text.strip()):
            return text
        if position in self.groups_points or "," in text:
            text = text.replace(".", "")
        return text.replace(",", ".")

    def __str__(self) -> str:
        parts = [f"separated by {DELIMITERS.get(self.delimiter, repr(self.delimiter))}"]
        parts += ["quotes escaped by backslashes"] if self.escape else []
        parts += ["decimal commas"] if self.decimal == "," else []
        return ", ".join(parts)


def announced_delimiter(first_line: str) -> str | None:
    """Return the delimiter that a first line such as `sep=;` announces, or None for any other line.

    Spreadsheets write such lines.

    >>> announced_delimiter("sep=;\\r\\n"), announced_delimiter("id;title\\n")
    (';', None)
    """
    match = _SEPARATOR_LINE.fullmatch(first_line)
    return match["delimiter"] if match is not None else None


def sniff_dialect(sample: str, options: FileOptions = AS_FOUND) -> Dialect:
    """Detect the dialect of a file that begins with these lines.

    A delimiter that does not split the header is ruled out, no matter how often it occurs in later lines. Of
    the others, the delimiter is chosen that makes the most records as wide as the header. If several do
    equally well, CleverCSV decides (van den Burg et al. 2019).
    """
    delimiter = options.delimiter or _delimiter(sample)
    dialect = Dialect(delimiter)
    if '\\"' in sample:
        dialect = max(dialect, Dialect(delimiter, escape="\\"), key=lambda each: _fit(sample, each)[0])
    if re.search(f'{re.escape(delimiter)} "', sample):
        spaced = Dialect(delimiter, dialect.escape, skips_space=True)
        dialect = max(dialect, spaced, key=lambda each: _fit(sample, each)[0])
    if options.decimal == "." or (options.decimal is None and delimiter not in (";", "\t")):
        return dialect
    return _with_comma_numbers(dialect, sample, is_given=options.decimal is not None)


def _delimiter(sample: str) -> str:
    fits = {delimiter: _fit(sample, Dialect(delimiter)) for delimiter in DELIMITERS}
    fits = {delimiter: fit for delimiter, fit in fits.items() if fit[1] > 1}
    best = [delimiter for delimiter, fit in fits.items() if fit[0] == max(fits.values())[0]]
    if len(best) < 2:
        return best[0] if best else ","
    import clevercsv  # imported here, because it takes a third of a second and few files need it

    try:
        found = clevercsv.Sniffer().sniff(sample, delimiters=best)
    except clevercsv.Error:
        return best[0]
    return found.delimiter if found is not None and found.delimiter in best else best[0]


def _fit(sample: str, dialect: Dialect) -> tuple[float, int]:
    """Return the share of records that are as wide as the header, and the header's width."""
    width, num_records, num_fitting = 0, 0, 0
    for cells in _records(sample, dialect):
        if cells is None:
            num_records += 1
        elif not width:
            width = len(_without_empty_end(cells))
        else:
            num_records += 1
            num_fitting += len(_without_empty_end(cells)) <= width <= len(cells)
    return (num_fitting / num_records if num_records else 1.0), width


def _records(sample: str, dialect: Dialect) -> Iterator[list[str] | None]:
    """Yield the non-empty records of the sample. At a malformed record, yield None and stop."""
    reader = dialect.reader(io.StringIO(sample, newline=""))
    try:
        for cells in islice(reader, _MAX_SAMPLE_RECORDS):
            if any(cell and not cell.isspace() for cell in cells):
                yield cells
    except csv.Error:
        yield None


def _without_empty_end(cells: list[str]) -> list[str]:
    end = len(cells)
    while end and not cells[end - 1].strip():
        end -= 1
    return cells[:end]


def _with_comma_numbers(dialect: Dialect, sample: str, *, is_given: bool) -> Dialect:
    """Return the dialect with `decimal`, `comma_numbers` and `groups_points` as detected in the sample.

    A point before exactly three digits is ambiguous. Columns with such numbers have decimal commas only if
    the user specified decimal commas, or if another column has them. In tab-separated files, a comma before
    exactly three digits is ambiguous too, because English spreadsheets write "1,299" for 1299.
    """
    records = (cells for cells in _records(sample, dialect) if cells is not None)
    width = len(next(records, []))
    numbers, groups, with_comma = set(range(width)), set(), set()
    is_undecided = re.compile(r"[^\d.]*[1-9]\d{0,2},\d{3}\D*" if dialect.delimiter == "\t" else r"(?!)")
    seen: set[int] = set()
    for cells in records:
        for position in tuple(numbers):
            cell = cells[position].strip() if position < len(cells) else ""
            if not cell:
                continue
            seen.add(position)
            if len(cell) > _MAX_NUMBER_CHARACTERS or not _COMMA_NUMBER.fullmatch(cell):
                numbers.discard(position)
            elif "," in cell:
                with_comma |= set() if is_undecided.fullmatch(cell) else {position}
            elif "." in cell:
                groups.add(position)
    numbers &= seen
    if not is_given and not with_comma & numbers:
        numbers = set() if dialect.delimiter == "\t" else numbers - groups
    return replace(
        dialect,
        decimal="," if is_given or with_comma & numbers else ".",
        comma_numbers=frozenset(numbers),
        groups_points=frozenset(groups & numbers),
    )
