"""`pressroom run prompt --preview`: runs the first rows on their own, and prints prompts and answers.

The rows run with services of their own in a temporary folder, so nothing of them is left behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Engine

from db.batches import batch_settings
from db.reports import JobResult
from jobs.rejection import Rejected
from jobs.shown import plural
from kinds.prompt.answer import read_answers
from kinds.prompt.ended import Ended, ended_rows
from kinds.prompt.examples import Example, ExampleMetrics, read_examples
from kinds.prompt.intake import first_rows
from kinds.prompt.payload import ROWS, PromptPayload, PromptSettings
from kinds.prompt.row import RowRequest, row_of
from kinds.prompt.table import ResultTable
from kinds.prompt.template import printed
from kinds.prompt.truncation import Cut
from pressroom.client import Client
from pressroom.console import print_json, print_line, say
from pressroom.one_machine import OneMachine
from pressroom.results import ResultReader
from pressroom.run import RunRequest, run_batch
from pressroom.summary import Summary
from storage.resources import read_resource
from storage.store import Store
from workers.devices import Device
from workers.intake import BatchRequest, Inputs
from workers.producer import Submission, new_batch
from workers.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRow:
    """A row of a preview: the turns of its prompt, and its new columns."""

    custom_id: str
    turns: tuple[tuple[str, str], ...]
    """Role and text of each turn."""
    columns: Mapping[str, object]
    """New columns by name, with the error for a row without an answer."""

    def as_json(self) -> dict[str, object]:
        """Return the row as JSON for scripts."""
        messages = [{"role": role, "content": text} for role, text in self.turns]
        return {"id": self.custom_id, "messages": messages, "columns": dict(self.columns)}

    def lines(self) -> Iterator[str]:
        """Yield the lines that people read."""
        yield f"row {self.custom_id}"
        for role, text in self.turns:
            yield from _block(f"{role} turn", text)
        for name, value in self.columns.items():
            yield from _block(f"column {name}", "" if value is None else str(printed(value)))


def _block(label: str, text: str) -> Iterator[str]:
    yield f"  {label}:"
    yield from (f"    {line}" for line in text.split("\n"))


def run_preview(
    request: BatchRequest,
    inputs: Mapping[str, Path],
    num_rows: int,
    settings: Settings,
    devices: tuple[Device, ...],
    *,
    json: bool,
) -> None:
    """Run the first rows of a table, and print the prompt and the new columns of each.

    Raises what a run of the whole table raises.
    """
    path = inputs[ROWS]
    rows, rejected = first_rows(path, request.file, num_rows)
    for line in rejected:
        say(f"refused: {line}")
    with tempfile.TemporaryDirectory(prefix="pressroom-preview-") as home:
        own = settings.model_copy(
            update={
                "home": Path(home),
                "models_dir": settings.models_folder,
                **dict.fromkeys(("db_url", "redis_url", "s3_url")),
            }
        )
        run_request = RunRequest(
            profiles=new_batch(request, own, name=path.name).profiles,
            submit=_submit(replace(request, idempotency_key=None), {**inputs, ROWS: rows}),
            out=None,
            devices=devices[:1],
            resume_command=(),
        )
        shown = run_batch(run_request, own, _read_rows).exported
    if json:
        print_json({"rows": [row.as_json() for row in shown]})
        return
    for row in shown:
        for text in row.lines():
            print_line(text)
        print_line("")
    say(f"This was a preview of {plural(len(shown), 'row', 'rows')}; nothing was kept.")


def _submit(
    request: BatchRequest, inputs: Inputs
) -> Callable[[OneMachine, Callable[[Rejected], None]], Submission]:
    def submit(machine: OneMachine, on_rejected: Callable[[Rejected], None]) -> Submission:
        with Client(machine.urls) as client:
            return client.submit_request(
                request, inputs, on_rejected=on_rejected, on_note=say, on_progress=lambda _: None
            )

    return submit


def _read_rows(database: Engine, store: Store, summary: Summary, out: Path) -> Sequence[PreviewRow]:
    """Return the rows of the batch that have ended; `out` is the folder in which failures are written."""
    settings = PromptSettings.model_validate(batch_settings(database, summary.batch_id))
    reader = ResultReader(database, store)
    examples = _examples(store, settings)
    with (out / "rows").open("w", encoding="utf-8") as lines:
        table = ResultTable(settings, lines)
        return [
            preview_row(ended, settings, table, examples)
            for ended in ended_rows(reader, summary.batch_id, out)
        ]


def _examples(store: Store, settings: PromptSettings) -> Mapping[str, Example]:
    """Return the examples of the batch by name; none if it has no examples."""
    if settings.examples_sha256 is None:
        return {}
    body = read_resource(store, settings.examples_sha256)
    return {example.name: example for example in read_examples(body)}


def preview_row(
    ended: Ended, settings: PromptSettings, table: ResultTable, examples: Mapping[str, Example]
) -> PreviewRow:
    """Return a row with the prompt that was sent for it; `examples` are those of the batch by name."""
    job, answers = (ended, None) if isinstance(ended, JobResult) else (ended.job, read_answers(ended))
    row = row_of(PromptPayload.model_validate(job.payload), settings)
    if answers is not None and answers[0].truncated is not None:
        row = Cut.parse(answers[0].truncated).apply(row)
    names = ExampleMetrics.model_validate(job.metrics).examples
    turns = [message for name in names for message in examples[name].messages()]
    request = RowRequest.of(row, settings, seed=0, examples=turns)
    return PreviewRow(
        custom_id=job.custom_id,
        turns=tuple((message.role, message.content) for message in request.prompt.messages),
        columns=table.failure(job) if answers is None else table.outputs(answers),
    )
