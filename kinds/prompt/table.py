"""The table of results: the columns of the input, and the new columns of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

import pyarrow as pa

from db.reports import JobResult
from jobs.inference import FinishReason
from jobs.shown import json_text
from kinds.prompt.answer import Answer
from kinds.prompt.columns import max_texts, new_columns, numbered, possible_columns
from kinds.prompt.payload import PromptPayload, PromptSettings
from kinds.prompt.schema import schema_columns
from pressroom.default_export.table import ColumnTypes

ERROR = "error"
REASONING = "reasoning"
LOGPROBS = "logprobs"
FINISH_REASON = "finish_reason"
TRUNCATED = "truncated"
"""Columns that the table has only if at least one row needs them."""


class ResultTable:
    """Writes the rows to results.jsonl, and records the columns that the other formats need."""

    def __init__(self, settings: PromptSettings, lines: TextIO) -> None:
        """Write to `lines`, which is results.jsonl open for writing."""
        self.settings = settings
        self._lines = lines
        self._types = ColumnTypes()
        own = dict.fromkeys(settings.columns)
        self._own = dict.fromkeys(name for name in own if name not in settings.settings_columns)
        self._new = dict.fromkeys(new_columns(settings))
        self._rare: dict[str, None] = {}
        self._taken = {*settings.columns, *possible_columns(settings)}
        self._max_texts = max_texts(settings)
        fields = settings.json_schema
        self._names = (settings.into,) if fields is None else schema_columns(fields)

    def inputs(self, job: JobResult) -> dict[str, object]:
        """Return the columns of a job's row that are part of the results, in the order of the table."""
        row: Mapping[str, object] = PromptPayload.model_validate(job.payload).row
        known = {name: row[name] for name in self._own if name in row}
        hidden = self.settings.settings_columns
        return known | {
            name: value for name, value in row.items() if name not in known and name not in hidden
        }

    def outputs(self, answers: Sequence[Answer]) -> dict[str, object]:
        """Return the new columns of a row."""
        values: dict[str, object] = {}
        for number, answer in enumerate(answers):
            fields = answer.fields if answer.fields is not None else {self._names[0]: answer.text}
            values |= {numbered(name, number): fields.get(name) for name in self._names}
        values |= dict.fromkeys(name for name in self._new if name not in values)
        for number, answer in enumerate(answers):
            values |= {numbered(self.rare_name(name), number): value for name, value in _rare(answer).items()}
        return values

    def failure(self, job: JobResult) -> dict[str, object]:
        """Return the new columns of a row without a result, which are empty, and a column with the error."""
        error = f"{job.error_code}: {job.error_message}" if job.error_code else job.status.value
        return {**dict.fromkeys(self._new), self.rare_name(ERROR): error}

    def rare_name(self, name: str) -> str:
        """Return the name of a column that only some rows have; it differs from the columns of the table."""
        while any(numbered(name, number) in self._taken for number in range(self._max_texts)):
            name = f"prompt_{name}"
        return name

    def write(self, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
        """Append a row."""
        row = {**inputs, **outputs}
        self._lines.write(json_text(row) + "\n")
        for name, value in row.items():
            self._types.note(name, value)
        self._own.update(dict.fromkeys(inputs))
        self._rare.update(dict.fromkeys(name for name in outputs if name not in self._new))

    def schema(self) -> pa.Schema:
        """Return the columns of all rows so far with their types."""
        names = {**self._own, **self._new, **self._rare}
        return pa.schema([(name, self._types[name]) for name in names])


def _rare(answer: Answer) -> dict[str, object]:
    """Return the values of the columns that only some tables have, without absent ones."""
    values: dict[str, object] = {}
    if answer.reasoning is not None:
        values[REASONING] = answer.reasoning
    if answer.logprobs is not None:
        values[LOGPROBS] = [each.model_dump() for each in answer.logprobs]
    if answer.truncated is not None:
        values[TRUNCATED] = answer.truncated
    if answer.finish_reason is not FinishReason.STOP:
        values[FINISH_REASON] = answer.finish_reason.value
    return values
