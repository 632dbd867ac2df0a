"""A record of a file, whatever its format: a line number and named fields, or why it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.guards import find_hidden_secret
from jobs.intake_json import JsonRefusedError, parse
from jobs.rejection import Rejected, snippet
from jobs.rows import Refusal


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

    def reject_unreadable(self, refusal: Refusal) -> Rejected:
        """Refuse this record for what it made a parser raise."""
        return self.reject(refusal.code, refusal.reason, "correct the record, or leave it out")

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


def json_object(record: Record, text: str, *, example: str) -> dict[str, object] | Rejected:
    """The object of a line of JSONL; `example` shows people what one looks like."""
    try:
        value = parse(text)
    except JsonRefusedError as error:
        if (secret := find_hidden_secret(text)) is not None:
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
