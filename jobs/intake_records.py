"""The records of a file, whatever its format: a line number and named fields, or why there are none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from jobs.guards import find_secret, invalid_unicode_at
from jobs.intake_columns import Columns
from jobs.intake_csv import DELIMITERS, CsvRecord, read_csv_records
from jobs.intake_file import MAX_LINE_BYTES, Line, refuse_file
from jobs.intake_json import JsonRefusedError, parse
from jobs.rejection import Rejected, snippet

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the file has it; nothing is validated yet."""

    file: str
    line: int
    fields: dict[str, object]

    def strings(self) -> Iterator[tuple[str, str]]:
        """Column and text of every string in the record, keys and nested values included."""
        for name, value in self.fields.items():
            yield name, name
            for text in _strings_in(value):
                yield name, text

    def reject(
        self, code: str, reason: str, advice: str, column: str | None = None, text: str | None = None
    ) -> Rejected:
        """Refuse this record; the text's beginning is shown."""
        shown = snippet(text) if text is not None else None
        name = snippet(column) if column is not None else None
        return Rejected(
            file=self.file,
            line=self.line,
            code=code,
            reason=reason,
            advice=advice,
            column=name,
            snippet=shown,
        )

    def reject_secret(self, secret: str, column: str | None = None) -> Rejected:
        """Refuse this record without showing any of it."""
        reason, advice = f"seems to hold {secret}", "remove it, and replace the secret where it is used"
        return self.reject("secret_in_input", reason, advice, column)

    def reject_unicode(self, text: str, at: int, column: str | None = None) -> Rejected:
        """Refuse this record for the character at an index of the text."""
        ordinal = ord(text[at])
        if ordinal == 0:
            name = "a NUL"
        elif 0xDC80 <= ordinal <= 0xDCFF:  # PEP 383: how a byte that is not UTF-8 was read
            name = f"the byte 0x{ordinal - 0xDC00:02x}, which is not UTF-8"
        else:
            name = f"the lone surrogate U+{ordinal:04X}"
        reason = f"holds {name} at character {at + 1}"
        return self.reject("text_invalid_unicode", reason, "save the file as UTF-8 without it", column, text)


def read_records(path: Path, lines: Iterator[Line], columns: Columns) -> Iterator[Record | Rejected]:
    """Stream the records of CSV or JSONL: by the file's name, else by its first character.

    Raises FileRejectedError for a CSV header that cannot be used.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix != ".csv" and suffix not in JSON_SUFFIXES:
        blank = []
        for line in lines:
            blank.append(line)
            if line.text.strip() or line.is_too_large:
                break
        suffix = ".jsonl" if blank and blank[-1].text.lstrip().startswith("{") else ".csv"
        lines = chain(blank, lines)
    return _jsonl(path, lines) if suffix in JSON_SUFFIXES else _csv(path, lines, columns)


def _jsonl(path: Path, lines: Iterable[Line]) -> Iterator[Record | Rejected]:
    for line in lines:
        text = line.text.strip(" \t\r\n")
        record = Record(str(path), line.number, {})
        if line.is_too_large:
            yield _too_large(record)
        elif not text:
            continue
        elif (at := invalid_unicode_at(text)) is not None:
            yield record.reject_unicode(text, at)
        else:
            value = json_object(record, text, example='{"title": "..."}')
            yield value if isinstance(value, Rejected) else Record(record.file, record.line, value)


def json_object(record: Record, text: str, *, example: str) -> dict[str, object] | Rejected:
    """The object of a line of JSONL; `example` shows people what one looks like."""
    try:
        value = parse(text)
    except JsonRefusedError as error:
        if (secret := find_secret(text)) is not None:
            return record.reject_secret(secret)
        return Rejected(
            file=record.file,
            line=record.line,
            character=error.character,
            code=error.code,
            reason=error.reason,
            advice="write one JSON object in one line",
            snippet=snippet(text),
        )
    if not isinstance(value, dict):
        advice = f"write one JSON object a line, such as {example}"
        return record.reject("json_invalid", "is not a JSON object", advice, text=text)
    return value


def _csv(path: Path, lines: Iterable[Line], columns: Columns) -> Iterator[Record | Rejected]:
    header: list[str] | None = None
    num_records = 0
    for row in read_csv_records(lines):
        if not row.code and not any(cell.strip() for cell in row.cells):
            continue
        if header is None:
            header = _header(path, row, columns)
            continue
        num_records += 1
        yield _row(Record(str(path), row.line, {}), row, header, columns)
    if header is not None and num_records == 0:
        raise refuse_file(
            path, "file_header_only", "has a header and no line", "write one line for each text"
        )


def _header(path: Path, row: CsvRecord, columns: Columns) -> list[str]:
    if row.code:
        raise refuse_file(
            path, row.code, f"the header {row.reason}", "write a line of column names", row.line
        )
    header = [cell.strip() for cell in row.cells]
    if any(invalid_unicode_at(cell) is not None for cell in header):
        raise refuse_file(
            path, "text_invalid_unicode", "the header is not UTF-8", "save the file as UTF-8", row.line
        )
    for delimiter, name in DELIMITERS.items():
        if (
            len(header) == 1
            and set(header[0].split(delimiter)) & set(columns.names)
            and delimiter in header[0]
        ):
            reason = f"its columns are separated by {name}, not by commas"
            raise refuse_file(path, "csv_delimiter", reason, "save it as comma-separated", row.line)
    for position, name in enumerate(header, start=1):
        if name not in columns.names:
            shown = repr(snippet(name) or "") if name else "without a name"
            reason, advice = f"column {position} ({shown}) is unknown", columns.suggest(name)
            raise refuse_file(path, "unknown_column", reason, advice, row.line)
        if name in header[: position - 1]:
            reason = f"column {name!r} stands twice"
            raise refuse_file(path, "duplicate_column", reason, "remove or rename one of them", row.line)
    if missing := columns.missing(header):
        raise refuse_file(
            path, "missing_column", f"has no column {missing}", "add it to the header", row.line
        )
    return header


def _row(record: Record, row: CsvRecord, header: list[str], columns: Columns) -> Record | Rejected:
    if row.code == "body_too_large":
        return _too_large(record)
    if row.code:
        return record.reject(row.code, row.reason, 'double each quote inside a quoted cell: ""')
    if len(row.cells) != len(header):
        code = "csv_extra_cell" if len(row.cells) > len(header) else "csv_missing_cell"
        reason = f"has {len(row.cells)} cells, the header names {len(header)}"
        return record.reject(
            code, reason, "quote cells that hold commas; leave absent ones empty", text=row.cells[0]
        )
    for name, cell in zip(header, row.cells, strict=True):
        text = cell.strip().replace("\r\n", "\n")
        if not text:
            continue
        if name in columns.lists:
            record.fields[name] = [part.strip() for part in text.split(";") if part.strip()]
        else:
            record.fields[name] = text
    return record


def _too_large(record: Record) -> Rejected:
    reason = f"has more than {MAX_LINE_BYTES:,} bytes"
    return record.reject("body_too_large", reason, "shorten the text, or split it over lines")


def _strings_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings_in(key)
            yield from _strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings_in(inner)
