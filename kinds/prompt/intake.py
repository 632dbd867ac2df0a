"""Turns the rows of a table into jobs, after the template was checked against the table's columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from db.stages import NewJob
from jobs.errors import InputError, PromptTooLongError
from jobs.guards import CONTROL_TOKENS
from jobs.intake.columns import ID_COLUMN, MAX_COLUMNS, ColumnsRefusedError, usual_name
from jobs.intake.dialect import FileOptions
from jobs.intake.payloads import ITEMS, Check, Items, read_payloads
from jobs.intake.records import Record, file_records, item_records
from jobs.intake.values import MAX_INTEGER
from jobs.registry import load_kind
from jobs.rejection import Refusal, Rejected, attempt
from kinds.prompt.columns import check_settings
from kinds.prompt.openai.intake import is_batch_file, read_batch_file
from kinds.prompt.payload import PromptPayload, PromptSettings
from kinds.prompt.row import RowRequest, row_of
from workers.intake import InputMissingError, IntakePlan, IntakeSource
from workers.models.manifest import model_digest
from workers.prompt_check import prompt_check

NUM_PEEKED = 100
"""Number of rows whose keys are the columns of a table that has no header, such as JSONL."""


def read_table(source: IntakeSource) -> IntakePlan:
    """Plan a job for each row of the table, or read an OpenAI batch file if there is no template.

    Implements workers.intake.IntakeReader. The settings are checked against the columns first. Raises
    InputError, such as TemplateError, ColumnExistsError or ColumnUnknownError.
    """
    settings = source.options
    if not isinstance(settings, PromptSettings):
        raise TypeError(f"the options of a prompt batch are {type(settings).__name__}")
    if not settings.template.strip():
        if is_batch_file(source):
            if settings.keep is not None:
                raise InputError(
                    "lines of an OpenAI batch file are not kept: submit the file without keep, or a table "
                    "with a template",
                    code="keep_of_batch_file",
                )
            return read_batch_file(source, settings)
        raise InputMissingError(
            "there is no template: give --template FILE, whose variables are columns; only an OpenAI batch "
            "file needs none"
        )
    if settings.model_map:
        raise InputError(
            "setting model_map has an effect only on an OpenAI batch file, and these have no template: leave "
            "it out",
            code="setting_invalid",
        )
    (rows,) = source.inputs.values()
    table = _Table.read(rows, source.request.file)
    settings = settings.model_copy(update={"columns": table.columns} | _keep_facts(source, settings))
    check_settings(settings)
    return IntakePlan(
        jobs=_jobs(source, table, settings),
        settings=settings.model_dump(mode="json"),
        model=source.request.model,
        name=table.path.name,
    )


def _keep_facts(source: IntakeSource, settings: PromptSettings) -> dict[str, object]:
    """Return the settings on which kept results depend and which only intake knows."""
    if settings.keep is None:
        return {}
    digest = model_digest(source.settings.models_folder, source.request.model)
    return {
        "model_digest": digest,
        "thinking": source.settings.thinking,
        "batch_seed": source.request.seed,
    }


def _jobs(source: IntakeSource, table: _Table, settings: PromptSettings) -> Iterator[NewJob | Rejected]:
    kind = load_kind(source.request.kind)
    check = prompt_check(kind, settings, source.request.model, source.settings)
    judge = _RenderCheck(settings) if check is None else check
    lines = read_payloads(
        table.path,
        table.records,
        _payload,
        control_tokens=CONTROL_TOKENS if check is None else check.control_tokens,
        check=judge if settings.truncate is None else _may_be_long(judge),
        id_column=table.id_column,
    )
    for line in lines:
        if isinstance(line, Rejected):
            yield line
        else:
            yield NewJob(line.custom_id, line.payload.stored())


class _Table:
    """The records of the input, and its columns, which are known before the records are read."""

    def __init__(self, path: Path, columns: Sequence[str], records: Iterator[Record | Rejected]) -> None:
        self.path = path
        self.columns = tuple(columns)
        self.records = records
        self.id_column = next((name for name in columns if usual_name(name) == ID_COLUMN), ID_COLUMN)

    @classmethod
    def read(cls, rows: Path | Items, options: FileOptions) -> _Table:
        """Read the beginning of a table, which is a file or in memory. Raises FileRejectedError."""
        header: list[str] = []
        if isinstance(rows, Path):
            path, fields = rows, file_records(rows, lambda names: _header(names, header), options)
        else:
            path, fields = ITEMS, item_records(str(ITEMS), rows)
        records = (
            row if isinstance(row, Rejected) else _record(Record(str(path), row[0], dict(row[1])))
            for row in fields
        )
        first = list(islice(records, NUM_PEEKED))
        keys = (name for record in first if isinstance(record, Record) for name in record.fields)
        return cls(path, header or list(dict.fromkeys(keys)), chain(first, records))


def first_rows(
    path: Path, options: FileOptions, num_rows: int
) -> tuple[list[dict[str, object]], list[Rejected]]:
    """Return the first rows of a table, and the records refused so far. Raises FileRejectedError."""
    rows: list[dict[str, object]] = []
    rejected: list[Rejected] = []
    for record in _Table.read(path, options).records:
        if isinstance(record, Rejected):
            rejected.append(record)
        else:
            rows.append(record.fields)
        if len(rows) == num_rows:
            break
    return rows, rejected


def _header(names: list[str], header: list[str]) -> list[str]:
    """Note the names of the columns in `header`. Raises ColumnsRefusedError for two columns without one."""
    if names.count("") > 1:
        raise ColumnsRefusedError("column_unnamed", "several columns have no name", "name them")
    header.extend(names)
    return names


def _record(record: Record) -> Record | Rejected:
    """Return the record with values as in JSON, or its rejection."""
    if len(record.fields) > MAX_COLUMNS:
        reason = f"has {len(record.fields):,} columns, more than {MAX_COLUMNS:,}"
        return record.reject("too_many_columns", reason, "remove the columns that are not needed")
    values: dict[str, object] = {}
    for name, value in record.fields.items():
        converted = attempt(_json_value, value)
        if isinstance(converted, Refusal):
            return record.reject("field_invalid", converted.reason, "convert the column to text", name)
        values[name] = converted
    return Record(record.file, record.line, values)


def _json_value(value: object) -> object:
    """Return a value of a table in a form that JSON has: dates, decimals and large integers become texts.

    NaN and infinity become None. Raises InputError for binary values and unknown types.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(inner) for inner in value]
    raise InputError(f"a value is {type(value).__name__}, which no prompt can contain")


def _payload(record: Record) -> PromptPayload:
    """Return the payload of a row, whose values are those of JSON already."""
    return PromptPayload.model_construct(row=cast("dict[str, JsonValue]", record.fields))


def _may_be_long(check: Check[PromptPayload]) -> Check[PromptPayload]:
    """Return a check that accepts prompts that are too long, because their jobs cut them."""

    def judge(payloads: Sequence[PromptPayload]) -> list[InputError | Refusal | None]:
        return [None if isinstance(each, PromptTooLongError) else each for each in check(payloads)]

    return judge


class _RenderCheck:
    """Renders the prompt of each row, where the model is not installed and lengths cannot be checked."""

    def __init__(self, settings: PromptSettings) -> None:
        self._settings = settings

    def __call__(self, payloads: Sequence[PromptPayload]) -> list[InputError | Refusal | None]:
        """Return for each payload the error in its template or its sampling, or None."""
        made = [attempt(self._render, payload) for payload in payloads]
        return [each if isinstance(each, Refusal) else None for each in made]

    def _render(self, payload: PromptPayload) -> RowRequest:
        return RowRequest.of(row_of(payload, self._settings), self._settings, seed=0)
