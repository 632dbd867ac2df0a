"""Turns the rows of a table into jobs, after the template was checked against the table's columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from db.stages import NewJob
from jobs.errors import InputError, PromptTooLongError
from jobs.guards import CONTROL_TOKENS
from jobs.inference import ModelTaskError
from jobs.intake.columns import MAX_COLUMNS, ColumnsRefusedError
from jobs.intake.dialect import FileOptions
from jobs.intake.payloads import ITEMS, Accepted, Check, Items, read_payloads
from jobs.intake.records import Record, file_records, item_records
from jobs.intake.values import MAX_INTEGER
from jobs.registry import load_kind
from jobs.rejection import FileRejectedError, Refusal, Rejected, attempt, quoted, refuse_file
from kinds.prompt.columns import check_settings, hint, id_column
from kinds.prompt.examples import (
    MAX_EXAMPLES,
    MAX_EXAMPLES_CHARACTERS,
    Example,
    answer_columns,
    example_bytes,
)
from kinds.prompt.openai.intake import is_batch_file, read_batch_file
from kinds.prompt.parts import PartsCheck
from kinds.prompt.payload import (
    DEFAULT_NUM_EXAMPLES,
    EXAMPLES,
    MAP_STAGE,
    ROWS,
    SET_BY_INTAKE,
    STAGE,
    PromptPayload,
    PromptSettings,
)
from kinds.prompt.row import RowRequest, columns_read, constraint_of, row_of
from workers.intake import InputMissingError, IntakePlan, IntakeSource
from workers.models.manifest import ModelNotInstalledError, model_digest, model_folder, read_manifest
from workers.prompt_check import PromptCheck, prompt_check
from workers.settings import DEFAULT_EMBEDDER

EMBED = "embed"
"""Task of an embedder."""

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
    _check_set_by_intake(settings)
    if not settings.template.strip():
        if EXAMPLES not in source.inputs and is_batch_file(source):
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
    table = _Table.read(source.inputs[ROWS], source.request.file)
    settings = settings.model_copy(update={"columns": table.columns} | _keep_facts(source, settings))
    check_settings(settings)
    settings = settings.model_copy(update=_example_facts(source, settings))
    jobs = _RowJobs(source, table, settings)
    return IntakePlan(
        jobs=jobs.planned(),
        settings=settings.model_dump(mode="json"),
        model=source.request.model,
        name=table.path.name,
        stages=(STAGE,) if settings.map_template is None else (MAP_STAGE, STAGE),
        num_records=lambda: jobs.num_rows,
    )


def _check_set_by_intake(settings: PromptSettings) -> None:
    """Raise InputError for a setting that only intake may set."""
    default = PromptSettings()
    for name in SET_BY_INTAKE:
        if getattr(settings, name) != getattr(default, name):
            raise InputError(f"setting {name} is set by intake: leave it out", code="setting_invalid")


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


def _example_facts(source: IntakeSource, settings: PromptSettings) -> dict[str, object]:
    """Store the examples of the batch, if it has any, and return the settings that describe them.

    Refused examples are passed on like refused rows. Raises FileRejectedError for a file of examples that
    cannot be used, and InputError for a setting that has no effect without examples.
    """
    if EXAMPLES not in source.inputs:
        if settings.embedder is not None or settings.num_examples != DEFAULT_NUM_EXAMPLES:
            raise InputError(
                "embedder and num_examples have no effect without examples: give --examples FILE, or leave "
                "them out",
                code="setting_invalid",
            )
        return {"examples_sha256": None}
    embedder = settings.embedder or DEFAULT_EMBEDDER
    _check_embedder(source, embedder)
    examples = _read_examples(source, settings)
    digest = source.store_resource(example_bytes(examples), media_type="application/json")
    facts: dict[str, object] = {"examples_sha256": digest, "embedder": embedder}
    if settings.keep is not None:
        facts["embedder_digest"] = model_digest(source.settings.models_folder, embedder)
    return facts


def _check_embedder(source: IntakeSource, embedder: str) -> None:
    """Raise ModelTaskError for a model that is installed here and is no embedder."""
    with suppress(ModelNotInstalledError):  # it may be installed only on the workers' machines
        task = read_manifest(model_folder(source.settings.models_folder, embedder)).task
        if task != EMBED:
            raise ModelTaskError(
                f"the model {embedder!r} is made for the task {task!r}, and does not embed texts: choose "
                "another --embedder"
            )


def _read_examples(source: IntakeSource, settings: PromptSettings) -> list[Example]:
    """Return the usable examples, which are read and checked as rows are."""
    table = _Table.read(source.inputs[EXAMPLES], source.request.file)
    needed = (*sorted(columns_read(settings)), *answer_columns(settings))
    missing = [name for name in needed if name not in table.columns]
    if missing and table.columns:
        raise refuse_file(
            table.path,
            "missing_column",
            f"has no column {quoted(missing[0])}{hint(missing[0], table.columns)}",
            "examples need the columns that the template reads, and those of the answer",
        )
    examples: list[Example] = []
    num_characters = 0
    own = settings.model_copy(update={"settings_columns": ()})
    check = prompt_check(load_kind(source.request.kind), own, source.request.model, source.settings)
    for line in _read_rows(table, check, check or _RenderCheck(own)):
        if isinstance(line, Rejected):
            source.on_rejected(line)
            continue
        try:
            example = Example.of(line.custom_id, row_of(line.payload, settings), settings)
        except InputError as error:
            record = Record(str(table.path), line.line, {})
            source.on_rejected(record.reject(error.code, str(error), "correct the example, or remove it"))
            continue
        examples.append(example)
        num_characters += len(example.turn) + len(example.answer)
        if len(examples) > MAX_EXAMPLES or num_characters > MAX_EXAMPLES_CHARACTERS:
            raise refuse_file(
                table.path,
                "too_many_examples",
                f"has more than {MAX_EXAMPLES:,} examples or {MAX_EXAMPLES_CHARACTERS:,} characters",
                "choose the examples that matter most",
                line.line,
            )
    if not examples:
        raise refuse_file(table.path, "no_example", "has no example that can be used", "correct its lines")
    return examples


class _RowJobs:
    """Turns the accepted rows into jobs, and counts them."""

    def __init__(self, source: IntakeSource, table: _Table, settings: PromptSettings) -> None:
        self._source = source
        self._table = table
        self._settings = settings
        self.num_rows = 0
        """Number of rows that were accepted so far."""

    def planned(self) -> Iterator[NewJob | Rejected]:
        """Yield the jobs of the first stage, and refused rows.

        Raises PartsWithoutModelError, or ConstraintUnsupportedError for a schema that no row could satisfy.
        """
        settings, source = self._settings, self._source
        check = prompt_check(load_kind(source.request.kind), settings, source.request.model, source.settings)
        if check is not None:
            check.check_constraint(constraint_of(settings))
        parts = None if settings.map_template is None else PartsCheck(check, settings, source.request.model)
        judge: Check[PromptPayload] = parts or check or _RenderCheck(settings)
        if settings.truncate is not None:
            judge = _may_be_long(judge)
        for line in _read_rows(self._table, check, judge):
            if isinstance(line, Rejected):
                yield line
                continue
            self.num_rows += 1
            if parts is None:
                yield NewJob(line.custom_id, line.payload.stored())
            else:
                for custom_id, payload in parts.jobs(line.custom_id, line.payload):
                    yield NewJob(custom_id, payload.stored())


def _read_rows(
    table: _Table, check: PromptCheck | None, judge: Check[PromptPayload]
) -> Iterator[Accepted[PromptPayload] | Rejected]:
    """Yield the rows of a table whose texts and prompts have been checked.

    `check` knows the model's control tokens, and `judge` refuses payloads.
    """
    return read_payloads(
        table.path,
        table.records,
        _payload,
        control_tokens=CONTROL_TOKENS if check is None else check.control_tokens,
        check=judge,
        id_column=table.id_column,
    )


class _Table:
    """The records of the input, and its columns, which are known before the records are read."""

    def __init__(self, path: Path, columns: Sequence[str], records: Iterator[Record | Rejected]) -> None:
        self.path = path
        self.columns = tuple(columns)
        self.records = records
        self.id_column = id_column(columns)

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
        if not header and all(isinstance(record, Rejected) for record in first):
            raise _no_columns(path, first)
        keys = (name for record in first if isinstance(record, Record) for name in record.fields)
        return cls(path, header or list(dict.fromkeys(keys)), chain(first, records))


def _no_columns(path: Path, rejected: Sequence[Record | Rejected]) -> FileRejectedError:
    """Return the error of a file without a header in which no record could be read."""
    for line in rejected:
        if isinstance(line, Rejected):
            return FileRejectedError(line)
    return refuse_file(path, "file_empty", "contains no records", "write one line for each record")


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
