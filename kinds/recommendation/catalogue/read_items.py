"""Reads the items of a catalogue file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from jobs.dialect import AS_FOUND, FileOptions
from jobs.file_records import file_records
from jobs.input_file import refuse_file
from jobs.intake_records import Record
from jobs.record_fields import assign
from jobs.rejection import FileRejectedError, Rejected
from kinds.recommendation.catalogue.fields import DATE_FIELDS, ITEM_FIELDS, check_item_mapping, item_columns
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.catalogue.item_maker import ItemMaker
from kinds.recommendation.catalogue.options import IntakeOptions
from kinds.recommendation.catalogue.tally import Tally

MAX_ITEMS = 2_000_000
"""Maximum items of a catalogue; all are in memory at once and take about 2 KB each."""


def read_items(
    path: Path, options: IntakeOptions, tally: Tally, file_options: FileOptions = AS_FOUND
) -> dict[str, Item]:
    """Return the items by id; if two rows share an id, the later one counts.

    The earlier row is reported if it differs. Raises ColumnMappingError for a mapping and FileRejectedError
    for a file that cannot be used at all.
    """
    columns = options.catalogue_columns
    check_item_mapping(columns)

    def dates() -> Iterator[object]:
        return _dates(path, columns, file_options.quietly())

    maker = ItemMaker(str(path), columns, tally, date_order=options.date_order, dates=dates)
    items: dict[str, Item] = {}
    lines: dict[str, int] = {}
    first: Rejected | None = None
    for record in file_records(path, lambda names: _wanted(names, columns), file_options):
        line = record.line if isinstance(record, Rejected) else record[0]
        made = record if isinstance(record, Rejected) else maker.make(*record)
        if isinstance(made, Rejected):
            first = first or made
            tally.reject(made)
            continue
        if (before := items.get(made.id)) is not None:
            _note_duplicate(Record(str(path), lines[made.id], {}), before, made, line, tally)
        items[made.id], lines[made.id] = made, line
        if len(items) > MAX_ITEMS:
            raise refuse_file(path, "too_many_items", f"has more than {MAX_ITEMS:,} items", "split it")
    if not items:
        raise _empty(path, first)
    return items


def _dates(path: Path, columns: Mapping[str, str], options: FileOptions) -> Iterator[object]:
    """Yield the values of the date columns, from the beginning of the file."""
    for record in file_records(path, lambda names: _wanted(names, columns), options):
        if isinstance(record, Rejected):
            continue
        fields = record[1]
        found = assign(fields, columns, ITEM_FIELDS)
        yield from (fields[found[field]] for field in DATE_FIELDS if field in found)


def _wanted(names: list[str], columns: Mapping[str, str]) -> list[str]:
    item_columns(names, columns)
    return names


def _note_duplicate(record: Record, before: Item, item: Item, line: int, tally: Tally) -> None:
    if before == item:
        tally.counts["duplicate_item"] += 1
        return
    reason = f"has the id {item.id!r} of line {line}, which is taken instead"
    tally.reject(record.reject("item_superseded", reason, "remove one of the two"))


def _empty(path: Path, first: Rejected | None) -> FileRejectedError:
    if first is None:
        return refuse_file(path, "file_empty", "holds no item", "write one row for each item")
    column = f"column {first.column!r}: " if first.column is not None else ""
    reason = f"no row of it is an item; line {first.line}: {column}{first.reason}"
    return refuse_file(path, "catalogue_empty", reason, first.advice)
