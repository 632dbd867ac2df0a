"""Turns the named fields of a catalogue row into an item; each row is accepted or rejected on its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from jobs.cells import as_text
from jobs.guards import (
    INJECTION_SUSPECTED,
    find_control_token,
    find_secret,
    invalid_unicode_at,
    is_injection_suspected,
)
from jobs.instants import DateOrder, Instants, unreadable
from jobs.intake_records import Record
from jobs.record_fields import ColumnMappingError
from jobs.rejection import Rejected
from jobs.rows import Refusal, attempt
from jobs.text.clean import HTML_REMOVED, clean_text
from kinds.recommendation.catalogue.fields import item_columns
from kinds.recommendation.catalogue.item import AttributeValue, Item
from kinds.recommendation.catalogue.tally import Tally
from kinds.recommendation.catalogue.values import parse_attribute, parse_available, parse_price

MAX_ID_CHARACTERS = 200
MAX_TITLE_CHARACTERS = 500
MAX_TEXT_CHARACTERS = 20_000
"""Maximum length of a description. A longer one is cut rather than refused: an embedding reads only the first
page, and the item is for sale all the same."""
MAX_ATTRIBUTE_CHARACTERS = 1_000
MAX_ATTRIBUTES = 100
"""Maximum attributes of one item; catalogues have about ten, and each becomes a feature."""
MAX_CURRENCY_CHARACTERS = 10

FORMULA = "formula"
"""Flag for a cell that a spreadsheet would execute. The text is kept, and exports put a quote before it."""
TEXT_CUT = "text_cut"

_MAX_RAW_CHARACTERS = 1_000_000
"""Characters of a text that are cleaned; four times the longest line that is read."""
_MAX_SHAPES = 1_000
_MAY_BE_FORMULA = re.compile(r"=|[@+-]\w+\s*[(|!]")
_NAME_SEPARATORS = re.compile(r"[\s.\-]+")


class _RefusedError(Exception):
    def __init__(self, rejected: Rejected) -> None:
        super().__init__(str(rejected))
        self.rejected = rejected


class ItemMaker:
    """Turns the records of one file into items. It is not thread-safe."""

    def __init__(
        self,
        name: str,
        columns: Mapping[str, str],
        tally: Tally,
        *,
        date_order: DateOrder | None = None,
        dates: Callable[[], Iterable[object]] = tuple,
    ) -> None:
        """`dates` reads the date columns again, in case nothing else says which number is the month."""
        self._name = name
        self._instants = Instants(date_order, dates)
        self._columns = columns
        self._tally = tally
        self._shapes: dict[tuple[str, ...], tuple[dict[str, str], dict[str, str]]] = {}

    def make(self, line: int, fields: Mapping[str, object]) -> Item | Rejected:
        """Return an item, or why the row is rejected; oddities of an accepted item are flagged."""
        try:
            record = Record(self._name, line, dict(fields))
            made = attempt(
                lambda row: row.item(self._tally), _Row(record, *self._assigned(line, fields), self._instants)
            )
        except _RefusedError as refused:
            return refused.rejected
        return record.reject_unreadable(made) if isinstance(made, Refusal) else made

    def _assigned(self, line: int, fields: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
        shape = tuple(fields)
        known = self._shapes.get(shape)
        if known is None:
            try:
                columns = item_columns(list(shape), self._columns)
            except ColumnMappingError as error:
                advice = "write an id and a title into every row, or name their columns"
                rejected = Record(self._name, line, {}).reject(error.code, str(error)[:300], advice)
                raise _RefusedError(rejected) from error
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            known = self._shapes[shape] = (columns, _attribute_names(shape, columns))
        return known


def _attribute_names(names: Iterable[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Map attribute names to columns, for all columns that are not a field of an item."""
    taken = set(columns.values())
    attributes: dict[str, str] = {}
    for name in names:
        attribute = _NAME_SEPARATORS.sub("_", name.strip().lower())
        if name in taken or not attribute:
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
            raise self._refused("title_missing", "has no title", "write one, or leave the row out", "title")
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
        if is_injection_suspected("\n".join((title, text, category or "", *_texts(attributes.values())))):
            self._flags.add(INJECTION_SUSPECTED)
        tally.flag(item_id, self._flags)
        return item

    def _guard(self) -> None:
        """Refuse a record that holds something which must not get into a prompt or a log."""
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
            reason, advice = f"holds the control token {token!r}", "remove it: models would obey it"
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
            raise self._refused("item_missing", "has no id", "write one, or leave the row out", "id")
        if len(item_id) > MAX_ID_CHARACTERS or not item_id.isprintable():
            reason = f"is not a printable text of at most {MAX_ID_CHARACTERS} characters"
            raise self._refused("field_invalid", reason, "shorten the id", "id", item_id)
        return item_id

    def _text(self, field: str, max_characters: int) -> str:
        text = as_text(self._value(field))
        if text is None:
            raise self._refused("field_invalid", "is no text", "write it as a string", field)
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
            raise self._refused("price_invalid", "is no price", advice, "price", as_text(value))
        return price[0], currency or price[1]

    def _category(self) -> tuple[str | None, dict[str, AttributeValue]]:
        """Return the first category, and all of them as an attribute if there are several."""
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
                "available_invalid", "says neither yes nor no", advice, "available", as_text(value)
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


def _texts(values: Iterable[AttributeValue]) -> Iterable[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from value
