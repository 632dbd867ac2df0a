"""The columns of a file, and those that a payload type has by its JSON Schema: intake knows no kind."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from jobs.errors import InputError
from jobs.input_file import refuse_file
from jobs.rejection import snippet

ID_COLUMN = "id"
"""The producer's own name for a line: every kind has it, no payload type holds it."""

MAX_COLUMNS = 10_000
"""Wider tables are matrices, not records; each record costs as much as its header is wide."""

_MAX_LISTED = 10
_MAX_COMPARED = 60
"""Characters of an unknown column that are compared with the names of columns: that is quadratic."""
_SEPARATORS = re.compile(r"[\s.\-]")

Require = Callable[[list[str]], Iterable[str]]
"""Of a file's columns, by the names that the file has, those that are wanted.

Raises InputError if the columns are no use."""


class ColumnsRefusedError(InputError):
    """A file's columns cannot make records; the code is that of the file's refusal."""

    def __init__(self, code: str, reason: str, advice: str) -> None:
        super().__init__(f"{reason} ({advice})", code=code)
        self.reason = reason
        self.advice = advice


def check_columns(path: Path, names: list[str], require: Require, line: int = 1) -> list[str]:
    """Those of a file's columns that are wanted. Raises FileRejectedError if they are no use."""
    if len(names) > MAX_COLUMNS:
        reason = f"has {len(names):,} columns, more than {MAX_COLUMNS:,}"
        raise refuse_file(path, "too_many_columns", reason, "keep the columns of a record", line)
    known: set[str] = set()
    for name in names:
        if name and name in known:
            reason = f"column {snippet(name)!r} stands twice"
            raise refuse_file(path, "duplicate_column", reason, "remove or rename one of them", line)
        known.add(name)
    try:
        return list(require(names))
    except ColumnsRefusedError as error:
        raise refuse_file(path, error.code, error.reason, error.advice, line) from error
    except InputError as error:
        raise refuse_file(path, error.code, str(error), "correct the header or the mapping", line) from error


def usual_name(name: str) -> str:
    """A column's name as fields are called: case, and spaces, dots or hyphens for low lines, do not matter.

    >>> usual_name(" Published-At ")
    'published_at'
    """
    return _SEPARATORS.sub("_", name.strip().lower())


def require_named(names: list[str], wanted: Iterable[str], advice: str) -> list[str]:
    """The file's columns of these names. Raises ColumnsRefusedError if one is not there."""
    given = {usual_name(name): name for name in names} | {name: name for name in names}
    found = []
    for name in wanted:
        column = given.get(name, given.get(usual_name(name)))
        if column is None:
            listed = ", ".join(snippet(each) or "''" for each in names[:_MAX_LISTED])
            reason = f"no column is named {snippet(name)!r}: there are {listed}"
            raise ColumnsRefusedError("missing_column", reason, advice)
        found.append(column)
    return list(dict.fromkeys(found))


def with_names(fields: Mapping[str, object], wanted: Iterable[str]) -> dict[str, object]:
    """A record's fields, those that are wanted by the names that they are wanted by."""
    named = dict(fields)
    for name in wanted:
        if name not in named:
            column = next((each for each in fields if usual_name(each) == usual_name(name)), None)
            if column is not None:
                named[name] = fields[column]
    return named


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one payload type."""

    names: tuple[str, ...]
    """In the order of the fields, `id` first."""
    lists: frozenset[str]
    """Columns whose CSV cell is split at semicolons."""
    needed: tuple[frozenset[str], ...]
    """At least one of these sets must be there, whole: `required`, and `anyOf` of the model's JSON Schema."""
    descriptions: dict[str, str]

    @classmethod
    def of(cls, payload_type: type[BaseModel]) -> Columns:
        """Read the columns from the payload type."""
        schema = payload_type.model_json_schema()
        properties: dict[str, dict[str, object]] = schema["properties"]
        required = frozenset(schema.get("required", ()))
        return cls(
            names=(ID_COLUMN, *properties),
            lists=frozenset(name for name, field in properties.items() if field.get("type") == "array"),
            needed=tuple(
                required | set(option["required"]) for option in schema.get("anyOf", [{"required": ()}])
            ),
            descriptions={name: str(field.get("description", "")) for name, field in properties.items()},
        )

    def field_of(self, name: str) -> str:
        """The field that a column is read as: its own name where there is none."""
        usual = usual_name(name)
        return usual if usual in self.names else name

    def require(self, header: list[str]) -> list[str]:
        """All of a file's columns. Raises ColumnsRefusedError if one is unknown, or if some are missing."""
        fields = [self.field_of(name) for name in header]
        shown = [snippet(name) or "" for name in header]
        if not set(fields) & set(self.names):
            listed = ", ".join(repr(name) for name in shown[:_MAX_LISTED])
            reason = f"none of its columns is known: it has {listed}"
            reason += f" and {len(shown) - _MAX_LISTED} more" if len(shown) > _MAX_LISTED else ""
            advice = f"the columns are {', '.join(self.names)}: is it another kind of file?"
            raise ColumnsRefusedError("unknown_column", reason, advice)
        for position, name in enumerate(fields):
            if name not in self.names:
                place = f"column {position + 1} ({repr(shown[position]) if name else 'without a name'})"
                raise ColumnsRefusedError("unknown_column", f"{place} is unknown", self.suggest(name))
        for position, name in enumerate(fields):
            if name in fields[:position]:
                first = shown[fields.index(name)]
                reason = f"columns {first!r} and {shown[position]!r} are both {name}"
                raise ColumnsRefusedError("duplicate_column", reason, "remove or rename one of them")
        if missing := self.missing(fields):
            raise ColumnsRefusedError("missing_column", f"has no column {missing}", "add it to the header")
        return header

    def suggest(self, name: str) -> str:
        """Name the column that an unknown one may have meant, if one is like it."""
        nearest = difflib.get_close_matches(usual_name(name)[:_MAX_COMPARED], self.names, n=1)
        meant = f"did you mean {nearest[0]!r}? " if nearest else ""
        return f"{meant}The columns are {', '.join(self.names)}"

    def advice(self, name: str | None) -> str:
        """What to write into a column, in the words of its field."""
        description = self.descriptions.get(name or "", "")
        return f"write {name} as {description}" if description else "correct the line"

    def missing(self, header: list[str]) -> str | None:
        """The columns that a header lacks, in words; None if it has enough."""
        if any(option <= set(header) for option in self.needed):
            return None
        return " or ".join(" and ".join(sorted(option - set(header))) for option in self.needed)
