"""The new columns of a batch, and the check of its settings against the columns of its table."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.errors import InputError
from jobs.rejection import quoted
from kinds.prompt.payload import SAMPLING_NAMES, PromptSettings
from kinds.prompt.row import template_of
from kinds.prompt.schema import schema_columns
from kinds.prompt.template import check_names, nearest_column


class ColumnExistsError(InputError):
    """A new column has the name of a column of the table."""

    code = "column_exists"


class ColumnUnknownError(InputError):
    """A setting names a column that the table does not have."""

    code = "column_unknown"


def check_settings(settings: PromptSettings) -> None:
    """Check the templates, the new columns and the named columns against the columns of the table.

    Raises TemplateError, SchemaInvalidError, ColumnExistsError or ColumnUnknownError.
    """
    columns = settings.columns
    for name in settings.settings_columns:
        if name not in SAMPLING_NAMES:
            raise ColumnUnknownError(
                f"settings column {quoted(name)} is no sampling parameter{_hint(name, SAMPLING_NAMES)}; the "
                f"parameters are {', '.join(SAMPLING_NAMES)}"
            )
        if name not in columns:
            raise ColumnUnknownError(
                f"the table has no settings column {quoted(name)}{_hint(name, columns)}: name columns of the "
                "table"
            )
    for name in new_columns(settings):
        if name in columns:
            raise ColumnExistsError(
                f"the table already has a column {quoted(name)}: choose another name "
                + ("with --into" if settings.json_schema is None else "in the schema, or rename the column")
            )
    _check_truncation(settings)
    check_names(settings.template_name, (settings.template, settings.system), columns)
    template_of(settings).check(columns)


def _check_truncation(settings: PromptSettings) -> None:
    column = settings.truncate_column
    if column is None:
        return
    if settings.truncate is None:
        raise ColumnUnknownError(f"the column {quoted(column)} is cut only with --truncate end")
    read = template_of(settings).columns
    if column not in settings.columns or column not in read:
        names = [name for name in settings.columns if name in read]
        raise ColumnUnknownError(
            f"the template reads no column {quoted(column)} that could be cut{_hint(column, names)}"
        )


def new_columns(settings: PromptSettings) -> tuple[str, ...]:
    """Return the names of the columns that every row gets, without the table's own."""
    first = (settings.into,) if settings.json_schema is None else schema_columns(settings.json_schema)
    return tuple(numbered(name, number) for number in range(settings.n) for name in first)


def numbered(name: str, number: int) -> str:
    """Return the column of a row's answer with this number, from 0.

    >>> numbered("text", 0), numbered("text", 1)
    ('text', 'text_2')
    """
    return name if number == 0 else f"{name}_{number + 1}"


def _hint(name: str, columns: Sequence[str]) -> str:
    nearest = nearest_column(name, columns)
    return f" (did you mean {quoted(nearest)}?)" if nearest else ""
