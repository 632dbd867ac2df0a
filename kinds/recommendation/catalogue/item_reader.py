"""Reads the items of a catalogue file; each row is accepted or rejected on its own."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from jobs.guards import (
    INJECTION_SUSPECTED,
    find_control_token,
    find_secret,
    invalid_unicode_at,
    is_injection_suspected,
)
from jobs.instants import DateOrder, Instants, unreadable
from jobs.intake.columns import ColumnMappingError, assign
from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.intake.records import Record, file_records
from jobs.intake.values import MAX_INTEGER, as_text
from jobs.rejection import FileRejectedError, Refusal, Rejected, attempt, refuse_file
from jobs.text.plain import HTML_REMOVED, clean_text
from kinds.recommendation.catalogue.inputs import (
    DATE_FIELDS,
    ITEM_FIELDS,
    IntakeOptions,
    check_item_mapping,
    item_columns,
)
from kinds.recommendation.catalogue.item import AttributeValue, Item
from kinds.recommendation.catalogue.tally import Tally

MAX_ITEMS = 2_000_000
"""Maximum number of items in a catalogue; all are in memory at once and take about 2 KB each."""

MAX_ID_CHARACTERS = 200
MAX_TITLE_CHARACTERS = 500
MAX_TEXT_CHARACTERS = 20_000
"""Maximum length of a description. A longer one is cut rather than refused, because an embedding reads only
the first page anyway, and the item is still for sale."""
MAX_ATTRIBUTE_CHARACTERS = 1_000
MAX_ATTRIBUTES = 100
"""Maximum number of attributes of one item; catalogues have about ten, and each becomes a feature."""
MAX_CURRENCY_CHARACTERS = 10

FORMULA = "formula"
"""Flag for a cell that a spreadsheet would execute. The text is kept, and exports put a quote before it."""
TEXT_CUT = "text_cut"

_MAX_RAW_CHARACTERS = 1_000_000
"""Maximum length of a text before cleaning; the rest of a longer text is dropped."""
_MAX_SHAPES = 1_000
_MAY_BE_FORMULA = re.compile(r"=|[@+-]\w+\s*[(|!]")
_NAME_SEPARATORS = re.compile(r"[\s.\-]+")

MAX_PRICE = 1e9
_PRICE = re.compile(
    r"(?:(?P<before>[$€£¥]|[A-Za-z]{3})\s?)?(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,12}(?:\.\d+)?)"
    r"(?:\s?(?P<after>[$€£¥]|[A-Za-z]{3}))?"
)
_SIGNS = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY"}

_AVAILABLE = frozenset({"true", "t", "yes", "y", "available", "in stock", "instock", "in_stock", "active",
                        "on sale", "limited availability", "limitedavailability"})  # fmt: skip
_UNAVAILABLE = frozenset({"false", "f", "no", "n", "unavailable", "out of stock", "outofstock",
                          "out_of_stock", "sold out", "soldout", "discontinued", "inactive"})  # fmt: skip


def read_items(
    path: Path, options: IntakeOptions, tally: Tally, file_options: FileOptions = AS_FOUND
) -> dict[str, Item]:
    """Return the items by id; if two rows share an id, the later one counts.

    The earlier row is reported if it differs. Raises ColumnMappingError if the mapping of columns is
    unusable, and FileRejectedError if the file is.
    """
    columns = options.catalogue_columns
    check_item_mapping(columns)

    def dates() -> Iterator[object]:
        return _dates_of(path, columns, file_options.quietly())

    parser = ItemParser(str(path), columns, tally, date_order=options.date_order, dates=dates)
    items: dict[str, Item] = {}
    lines: dict[str, int] = {}
    first: Rejected | None = None
    for record in file_records(path, lambda names: _checked(names, columns), file_options):
        line = record.line if isinstance(record, Rejected) else record[0]
        item = record if isinstance(record, Rejected) else parser.parse(*record)
        if isinstance(item, Rejected):
            first = first or item
            tally.reject(item)
            continue
        if (before := items.get(item.id)) is not None:
            _note_duplicate(Record(str(path), lines[item.id], {}), before, item, line, tally)
        items[item.id], lines[item.id] = item, line
        if len(items) > MAX_ITEMS:
            raise refuse_file(path, "too_many_items", f"has more than {MAX_ITEMS:,} items", "split it")
    if not items:
        raise _empty(path, first)
    return items


def _dates_of(path: Path, columns: Mapping[str, str], options: FileOptions) -> Iterator[object]:
    """Yield the values of the date columns, from the beginning of the file."""
    for record in file_records(path, lambda names: _checked(names, columns), options):
        if isinstance(record, Rejected):
            continue
        fields = record[1]
        assigned = assign(fields, columns, ITEM_FIELDS)
        yield from (fields[assigned[field]] for field in DATE_FIELDS if field in assigned)


def _checked(names: list[str], columns: Mapping[str, str]) -> list[str]:
    item_columns(names, columns)
    return names


def _note_duplicate(record: Record, before: Item, item: Item, line: int, tally: Tally) -> None:
    if before == item:
        tally.counts["duplicate_item"] += 1
        return
    reason = f"has the same id {item.id!r} as line {line}, which is used instead"
    tally.reject(record.reject("item_superseded", reason, "remove one of the two rows"))


def _empty(path: Path, first: Rejected | None) -> FileRejectedError:
    if first is None:
        return refuse_file(path, "file_empty", "contains no items", "write one row per item")
    column = f"column {first.column!r}: " if first.column is not None else ""
    reason = f"none of its rows is an item (the first is line {first.line}: {column}{first.reason})"
    return refuse_file(path, "catalogue_empty", reason, first.advice)


class _RefusedError(Exception):
    def __init__(self, rejected: Rejected) -> None:
        super().__init__(str(rejected))
        self.rejected = rejected


class ItemParser:
    """Parses the records of one file as items. It is not thread-safe."""

    def __init__(
        self,
        name: str,
        columns: Mapping[str, str],
        tally: Tally,
        *,
        date_order: DateOrder | None = None,
        dates: Callable[[], Iterable[object]] = tuple,
    ) -> None:
        """Prepare to parse the file `name`.

        `dates` rereads the date columns. It is called only if the order of day and month is not known.
        """
        self._name = name
        self._instants = Instants(date_order, dates)
        self._columns = columns
        self._tally = tally
        self._shapes: dict[tuple[str, ...], tuple[dict[str, str], dict[str, str]]] = {}

    def parse(self, line: int, fields: Mapping[str, object]) -> Item | Rejected:
        """Return an item, or the reason why the row is rejected; oddities of an accepted item are flagged."""
        try:
            record = Record(self._name, line, dict(fields))
            item = attempt(
                lambda row: row.item(self._tally), _Row(record, *self._assigned(line, fields), self._instants)
            )
        except _RefusedError as refused:
            return refused.rejected
        return record.reject_unreadable(item) if isinstance(item, Refusal) else item

    def _assigned(self, line: int, fields: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
        shape = tuple(fields)
        known = self._shapes.get(shape)
        if known is None:
            try:
                columns = item_columns(list(shape), self._columns)
            except ColumnMappingError as error:
                advice = "put an id and a title in every row, or name their columns"
                rejected = Record(self._name, line, {}).reject(error.code, str(error)[:300], advice)
                raise _RefusedError(rejected) from error
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            known = self._shapes[shape] = (columns, _attribute_names(shape, columns))
        return known


def _attribute_names(names: Iterable[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the columns that are not fields of an item, by the names of the attributes they become."""
    assigned = set(columns.values())
    attributes: dict[str, str] = {}
    for name in names:
        attribute = _NAME_SEPARATORS.sub("_", name.strip().lower())
        if name in assigned or not attribute:
            continue
        # Item.part has one namespace for fields and attributes.
        attributes.setdefault(f"other_{attribute}" if attribute in Item.model_fields else attribute, name)
    return attributes


class _Row:
    """A record that is being turned into an item."""

    def __init__(
        self,
        record: Record,
        columns: Mapping[str, str],
        attributes: Mapping[str, str],
        instants: Instants,
    ) -> None:
        self._record = record
        self._instants = instants
        self._columns = columns
        self._attributes = attributes
        self._flags: set[str] = set()

    def item(self, tally: Tally) -> Item:
        self._guard()
        item_id = self._id()
        title = self._text("title", MAX_TITLE_CHARACTERS)
        if not title:
            raise self._refused("title_missing", "has no title", "write one, or remove the row", "title")
        text = self._text("text", MAX_TEXT_CHARACTERS)
        price, currency = self._price()
        category, categories = self._category()
        attributes = categories | self._read_attributes()
        item = Item(
            id=item_id,
            title=title,
            text=text,
            category=category,
            attributes=attributes,
            price=price,
            currency=currency,
            available=self._available(),
            available_from=self._instant("available_from"),
            available_until=self._instant("available_until"),
        )
        if is_injection_suspected("\n".join((title, text, category or "", *_strings(attributes.values())))):
            self._flags.add(INJECTION_SUSPECTED)
        tally.flag(item_id, self._flags)
        return item

    def _guard(self) -> None:
        """Refuse a record with content that must not get into a prompt or a log."""
        strings = list(self._record.strings())
        together = "\n".join(text for _, text in strings)
        if invalid_unicode_at(together) is not None:
            column, text, at = next(
                (column, text, at) for column, text in strings if (at := invalid_unicode_at(text)) is not None
            )
            raise _RefusedError(self._record.reject_unicode(text, at, column))
        if (secret := find_secret(together)) is not None:
            raise _RefusedError(self._record.reject_secret(secret))
        if (token := find_control_token(together)) is not None:
            reason, advice = f"contains the control token {token!r}", "remove it: models obey it"
            raise _RefusedError(self._record.reject("input_control_token", reason, advice))

    def _refused(
        self, code: str, reason: str, advice: str, field: str, text: str | None = None
    ) -> _RefusedError:
        return _RefusedError(self._record.reject(code, reason, advice, self._columns.get(field, field), text))

    def _value(self, field: str) -> object:
        column = self._columns.get(field)
        value = self._record.fields.get(column) if column is not None else None
        return None if isinstance(value, str) and not value.strip() else value

    def _id(self) -> str:
        item_id = as_text(self._value("id"))
        if not item_id:
            raise self._refused("item_missing", "has no id", "write one, or remove the row", "id")
        if len(item_id) > MAX_ID_CHARACTERS or not item_id.isprintable():
            reason = f"is not a printable text of at most {MAX_ID_CHARACTERS} characters"
            raise self._refused("field_invalid", reason, "shorten the id", "id", item_id)
        return item_id

    def _text(self, field: str, max_characters: int) -> str:
        text = as_text(self._value(field))
        if text is None:
            raise self._refused("field_invalid", "is not a text", "write it as a string", field)
        return self._clean(text, max_characters)

    def _clean(self, text: str, max_characters: int) -> str:
        cleaned = clean_text(text[:_MAX_RAW_CHARACTERS])
        if cleaned.is_html_removed:
            self._flags.add(HTML_REMOVED)
        text = cleaned.text
        if _MAY_BE_FORMULA.match(text):
            self._flags.add(FORMULA)
        if len(text) <= max_characters:
            return text
        self._flags.add(TEXT_CUT)
        return (text[:max_characters].rpartition(" ")[0] or text[:max_characters]).rstrip()

    def _price(self) -> tuple[float | None, str | None]:
        value, currency = self._value("price"), self._text("currency", MAX_CURRENCY_CHARACTERS) or None
        if value is None:
            return None, currency
        price = parse_price(value)
        if price is None:
            advice = "write it as 12.99, or leave the cell empty"
            raise self._refused("price_invalid", "is not a price", advice, "price", as_text(value))
        return price[0], currency or price[1]

    def _category(self) -> tuple[str | None, dict[str, AttributeValue]]:
        """Return the first category or None, and an attribute with all categories if there are several."""
        value = self._attribute(self._columns.get("category", ""))
        if not isinstance(value, tuple):
            return (as_text(value) or None), {}
        return (value[0], {"categories": value}) if len(value) > 1 else (value[0], {})

    def _available(self) -> bool:
        value = self._value("available")
        available = True if value is None else parse_available(value)
        if available is None:
            advice = "write true or false, or the number in stock"
            raise self._refused(
                "available_invalid",
                "is neither a number nor a known word for yes or no",
                advice,
                "available",
                as_text(value),
            )
        return available

    def _instant(self, field: str) -> datetime | None:
        value = self._value(field)
        if value is None:
            return None
        instant = self._instants.parse(value)
        if instant is None:
            reason, advice = unreadable(value)
            raise self._refused(
                "date_invalid", reason, f"{advice}, or leave the cell empty", field, as_text(value)
            )
        return instant

    def _read_attributes(self) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {}
        for name, column in self._attributes.items():
            value = self._attribute(column)
            if value is None:
                continue
            if len(attributes) == MAX_ATTRIBUTES:
                self._flags.add("attribute_skipped")
                break
            attributes[name[:MAX_ID_CHARACTERS]] = value
        return attributes

    def _attribute(self, column: str) -> AttributeValue | None:
        try:
            value = parse_attribute(self._record.fields.get(column))
        except ValueError:
            self._flags.add("attribute_skipped")
            return None
        if isinstance(value, str):
            return self._clean(value, MAX_ATTRIBUTE_CHARACTERS) or None
        if isinstance(value, tuple):
            parts = (self._clean(part, MAX_ATTRIBUTE_CHARACTERS) for part in value[:MAX_ATTRIBUTES])
            return tuple(part for part in parts if part) or None
        return value


def _strings(values: Iterable[AttributeValue]) -> Iterable[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from value


def parse_price(value: object) -> tuple[float, str | None] | None:
    """Return the amount and its currency, or None if the value is not a price.

    "12,99" is not accepted, because it may mean 12.99 or 1299.

    >>> parse_price("€1,299.00"), parse_price("12,99"), parse_price("-1")
    ((1299.0, 'EUR'), None, None)
    """
    if isinstance(value, str):
        match = _PRICE.fullmatch(value.strip())
        if match is None:
            return None
        number, sign = float(match["number"].replace(",", "")), match["before"] or match["after"]
        return (number, _SIGNS.get(sign, sign.upper()) if sign else None) if number <= MAX_PRICE else None
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]  # numbers of JSON or Parquet, Decimals included
    except (TypeError, ValueError):
        return None
    return (number + 0.0, None) if 0 <= number <= MAX_PRICE else None


def parse_available(value: object) -> bool | None:
    """Return whether an item is available, from words or from the number in stock; None if it is unclear.

    >>> parse_available("In Stock"), parse_available("0"), parse_available(12), parse_available("maybe")
    (True, False, True, None)
    """
    if isinstance(value, str):
        word = value.strip().lower().removeprefix("https://schema.org/").removeprefix("http://schema.org/")
        if word in _AVAILABLE or word in _UNAVAILABLE:
            return word in _AVAILABLE
        try:
            value = float(word)
        except ValueError:
            return None
    if isinstance(value, int | float) and math.isfinite(value):
        return value > 0
    return None


def parse_attribute(value: object) -> AttributeValue | None:
    """Return an attribute from a value of JSON, Parquet or CSV, or None if it is empty.

    A text with vertical bars is a list, and "true" or "false" is a Boolean. Digits remain text, since they
    may be codes or sizes with leading zeros. Raises ValueError for any other type, such as an object.

    >>> parse_attribute("red|blue"), parse_attribute("TRUE"), parse_attribute("07"), parse_attribute(3)
    (('red', 'blue'), True, '07', 3.0)
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.strip()
        if "|" in text:
            parts = tuple(part.strip() for part in text.split("|") if part.strip())
            return parts if len(parts) > 1 else "".join(parts) or None
        return text.lower() == "true" if text.lower() in ("true", "false") else text or None
    if isinstance(value, int | float | Decimal):
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            return str(value)
        return float(value) + 0.0 if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return tuple(part for each in value if (part := as_text(each))) or None
    single = as_text(value)
    if single is not None:
        return single or None
    raise ValueError("an attribute must be a text, a number, a Boolean, a date or a list of these")
