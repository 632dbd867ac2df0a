"""The new columns of a batch, and the check of its settings against the columns of its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jobs.errors import InputError
from jobs.intake.columns import ID_COLUMN, usual_name
from jobs.rejection import quoted
from kinds.prompt.payload import MAX_TEXTS, SAMPLING_NAMES, PromptSettings
from kinds.prompt.row import columns_read, template_columns, template_of
from kinds.prompt.schema import schema_columns
from kinds.prompt.template import ROW, UnknownVariableError, check_names, nearest_column, row_template


class ColumnExistsError(InputError):
    """A new column has the name of a column of the table, or of another new column."""

    code = "column_exists"


class ColumnUnknownError(InputError):
    """A setting names a column that the table does not have."""

    code = "column_unknown"


class LabelsUnusableError(InputError):
    """The column with labels cannot be compared with the answers."""

    code = "labels_unusable"


def check_settings(settings: PromptSettings) -> None:
    """Check the templates, the new columns and the named columns against the columns of the table.

    Raises TemplateError, SchemaInvalidError, ColumnExistsError, ColumnUnknownError or
    LabelsUnusableError.
    """
    columns = settings.columns
    for name in settings.settings_columns:
        if name not in SAMPLING_NAMES:
            raise ColumnUnknownError(
                f"settings column {quoted(name)} is no sampling parameter{hint(name, SAMPLING_NAMES)}; the "
                f"parameters are {', '.join(SAMPLING_NAMES)}"
            )
        if name not in columns:
            raise ColumnUnknownError(
                f"the table has no settings column {quoted(name)}{hint(name, columns)}: name columns of the "
                "table"
            )
    _check_new_columns(settings)
    _check_column_names(settings)
    _check_labels(settings)
    _check_truncation(settings)
    _check_map(settings)
    names = template_columns(settings)
    check_names(settings.template_name, (settings.template, settings.system, settings.map_template), names)
    try:
        for name, source in (("", settings.template), (", map", settings.map_template)):
            if source is not None:
                row_template(settings.template_name + name, source, settings.system).check(names)
    except UnknownVariableError as error:
        if settings.recipe is None:
            raise
        advice = "if the table has it under another name, add --column NAME=COLUMN"
        raise UnknownVariableError(f"{error}; {advice}") from error


def _check_new_columns(settings: PromptSettings) -> None:
    """Raise ColumnExistsError for a new column whose name is the table's or another new column's."""
    counts, columns = Counter(possible_columns(settings)), frozenset(settings.columns)
    for name, number in counts.items():
        if name in columns:
            raise ColumnExistsError(
                f"the table already has a column {quoted(name)}: choose another name "
                + ("with --into" if settings.json_schema is None else "in the schema, or rename the column")
            )
        if number > 1:
            raise ColumnExistsError(
                f"two new columns would have the name {quoted(name)}, because the columns of further texts "
                "are numbered: choose another name in the schema"
            )


def _check_column_names(settings: PromptSettings) -> None:
    """Raise ColumnUnknownError for names that are not read, and for columns that the table lacks."""
    read = template_of(settings).columns
    for name, column in settings.column_names.items():
        if column not in settings.columns:
            raise ColumnUnknownError(
                f"the table has no column {quoted(column)} for {quoted(name)}"
                f"{hint(column, settings.columns)}: name a column of the table"
            )
        if name not in read and ROW not in template_of(settings).names:
            raise ColumnUnknownError(
                f"the template reads nothing named {quoted(name)}{hint(name, tuple(sorted(read)))}: write "
                "--column NAME=COLUMN with a name that the template reads"
            )


def _check_labels(settings: PromptSettings) -> None:
    """Raise ColumnUnknownError or LabelsUnusableError for labels that say nothing about the answers."""
    labels = settings.labels
    if labels is None:
        return
    if labels not in settings.columns:
        raise ColumnUnknownError(
            f"the table has no column {quoted(labels)} with labels{hint(labels, settings.columns)}"
        )
    if labels in columns_read(settings):
        raise LabelsUnusableError(
            f"the template reads the column {quoted(labels)} itself, so the model sees the right answer: "
            "remove it from the template"
        )
    if len(names := new_columns(settings)) > 1:
        raise LabelsUnusableError(
            f"labels are compared with the only new column, but there are {len(names)}: "
            f"{', '.join(map(quoted, names[:5]))}"
        )


def _check_map(settings: PromptSettings) -> None:
    """Raise ColumnUnknownError if a template does not read the column with the documents."""
    column = settings.map_column
    if column is None:
        return
    if settings.map_template is None:
        raise ColumnUnknownError(
            f"map_column is {quoted(column)}, but there is no template for parts: add map.jinja to the recipe"
        )
    own = row_template(f"{settings.template_name}, map", settings.map_template, settings.system).columns
    if column not in own & template_of(settings).columns:
        raise ColumnUnknownError(
            f"map_column is {quoted(column)}, which not both templates read"
            f"{hint(column, tuple(sorted(own)))}: name the column with the documents"
        )


def _check_truncation(settings: PromptSettings) -> None:
    column = settings.truncate_column
    if column is None:
        return
    if settings.truncate is None:
        raise ColumnUnknownError(f"the column {quoted(column)} is cut only with --truncate end")
    read = template_of(settings).columns
    if column not in (columns := template_columns(settings)) or column not in read:
        names = [name for name in columns if name in read]
        raise ColumnUnknownError(
            f"the template reads no column {quoted(column)} that could be cut{hint(column, names)}"
        )


def new_columns(settings: PromptSettings) -> tuple[str, ...]:
    """Return the names of the columns that every row gets, without the table's own."""
    return _columns_of_texts(settings, settings.n)


def possible_columns(settings: PromptSettings) -> tuple[str, ...]:
    """Return the names of the columns that a row may get, which are more if a column sets `n` for its row."""
    return _columns_of_texts(settings, max_texts(settings))


def max_texts(settings: PromptSettings) -> int:
    """Return the maximum number of texts that a row may have."""
    return MAX_TEXTS if "n" in settings.settings_columns else settings.n


def _columns_of_texts(settings: PromptSettings, num_texts: int) -> tuple[str, ...]:
    first = (settings.into,) if settings.json_schema is None else schema_columns(settings.json_schema)
    return tuple(numbered(name, number) for number in range(num_texts) for name in first)


def numbered(name: str, number: int) -> str:
    """Return the column of a row's answer with this number, from 0.

    >>> numbered("text", 0), numbered("text", 1)
    ('text', 'text_2')
    """
    return name if number == 0 else f"{name}_{number + 1}"


def id_column(columns: Sequence[str]) -> str:
    """Return the column of a table that has the ids of its rows, whose name may be in upper case.

    >>> id_column(("name", "ID")), id_column(("name",))
    ('ID', 'id')
    """
    return next((name for name in columns if usual_name(name) == ID_COLUMN), ID_COLUMN)


def hint(name: str, columns: Sequence[str]) -> str:
    """Return a note in parentheses that names the nearest column, or nothing if none is near."""
    nearest = nearest_column(name, columns)
    return f" (did you mean {quoted(nearest)}?)" if nearest else ""
