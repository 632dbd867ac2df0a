"""Which columns a payload type has, read from its JSON Schema: intake knows no kind."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from pydantic import BaseModel

ID_COLUMN = "id"
"""The producer's own name for a line: every kind has it, no payload type holds it."""


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

    def suggest(self, name: str) -> str:
        """Name the column that an unknown one may have meant."""
        nearest = difflib.get_close_matches(name.strip().lower(), self.names, n=1, cutoff=0.0)[0]
        return f"did you mean {nearest!r}? The columns are {', '.join(self.names)}"

    def advice(self, name: str | None) -> str:
        """What to write into a column, in the words of its field."""
        description = self.descriptions.get(name or "", "")
        return f"write {name} as {description}" if description else "correct the line"

    def missing(self, header: list[str]) -> str | None:
        """The columns that a header lacks, in words; None if it has enough."""
        if any(option <= set(header) for option in self.needed):
            return None
        return " or ".join(" and ".join(sorted(option - set(header))) for option in self.needed)
