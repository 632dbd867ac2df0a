"""Turns the lines of an OpenAI batch file into jobs: one for each request for texts, blocks for others."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from db.stages import NewJob
from jobs.errors import InputError
from jobs.guards import CONTROL_TOKENS, find_control_token, find_secret, invalid_unicode_at
from jobs.intake.payloads import ITEMS, MAX_ID_CHARACTERS, LinesById, read_payloads
from jobs.intake.records import Record
from jobs.registry import load_kind
from jobs.rejection import Refusal, Rejected, snippet
from kinds.prompt.openai.blocks import BlockMaker
from kinds.prompt.openai.lines import (
    CUSTOM_ID,
    EMBEDDINGS,
    GENERATE,
    BlockLine,
    Failure,
    LineFault,
    LineRequest,
    ModelMap,
    RefusedLine,
    custom_id_of,
    is_batch_line,
    read_request,
)
from kinds.prompt.payload import STAGE, InputFormat, PromptPayload, PromptSettings
from workers.intake import IntakePlan, IntakeSource
from workers.models.manifest import ModelNotInstalledError, model_folder, read_manifest
from workers.prompt_check import prompt_check

NUM_PEEKED = 100
"""Number of records of which one must be a line of a batch file, because the others may be damaged."""

SETTINGS = frozenset({"max_tokens", "model_map"})
"""Settings that have an effect on a batch file, whose lines have their own parameters."""

DUPLICATE = "duplicate_id"
"""Code of a line whose id an earlier line has."""

_OWN_ID = re.compile(r"(?:id-[0-9a-f]{32}|block-\d+)")
"""Matches ids that intake makes. A line's own id of this form is replaced, so that none is used twice."""


def is_batch_file(source: IntakeSource) -> bool:
    """Return whether one of the first records of the input is a line of an OpenAI batch file."""
    (name,) = source.inputs
    if not isinstance(source.inputs[name], Path):  # rows in memory can be read only once
        return False
    first = islice(source.records(name), NUM_PEEKED)
    return any(isinstance(record, Record) and is_batch_line(record.fields) for record in first)


def read_batch_file(source: IntakeSource, settings: PromptSettings) -> IntakePlan:
    """Plan the jobs of an OpenAI batch file.

    Raises InputError for a setting that has no effect, and ConfigurationError if no worker profile has all
    models to which the file's names are mapped.
    """
    default = PromptSettings()
    for name in PromptSettings.model_fields:
        if name not in SETTINGS and getattr(settings, name) != getattr(default, name):
            raise InputError(
                f"setting {name} has no effect on an OpenAI batch file, whose lines have parameters of their "
                "own: leave it out",
                code="setting_invalid",
            )
    settings = settings.model_copy(update={"input_format": InputFormat.OPENAI})
    lines = _Lines(source, settings)
    (rows,) = source.inputs.values()
    return IntakePlan(
        jobs=lines.jobs(),
        settings=settings.model_dump(mode="json"),
        model=source.request.model,
        name=rows.name if isinstance(rows, Path) else ITEMS.name,
        stages=(STAGE,),
        num_records=lambda: lines.num_used,
    )


def job_id(custom_id: str) -> str:
    """Return the id of a line's job: the line's own id if tables and terminals can contain it.

    >>> job_id("request-1"), job_id("two\\nlines")
    ('request-1', 'id-edc8c1284585d703bec48f34f842bd91')
    """
    if (
        len(custom_id) <= MAX_ID_CHARACTERS
        and custom_id.isprintable()
        and custom_id == custom_id.strip()
        and not _OWN_ID.fullmatch(custom_id)
    ):
        return custom_id
    return f"id-{hashlib.sha256(custom_id.encode(errors='surrogatepass')).hexdigest()[:32]}"


@dataclass(slots=True)
class _Lines:
    """Reads the lines of one file, and groups those that share a job."""

    source: IntakeSource
    settings: PromptSettings
    num_used: int = 0
    """Number of lines that were accepted so far."""
    _custom_ids: dict[int, str] = field(default_factory=dict)
    """Ids of the lines that were read and not yet judged, by their numbers."""
    _faults: dict[int, LineFault] = field(default_factory=dict)
    """Faults of lines whose rejection has not been passed on yet, by their numbers."""
    _lines_by_id: LinesById = field(default_factory=LinesById)
    """The first line of each id that can be written, whether the line is refused or not."""

    def jobs(self) -> Iterator[NewJob | Rejected]:
        """Yield the jobs and the refused lines in order. A block comes after the line that completes it."""
        models = self._models()
        check = _LineCheck(self.source, self.settings, models)
        block, first_line = BlockMaker(), 0
        (rows,) = self.source.inputs.values()
        lines = read_payloads(
            rows if isinstance(rows, Path) else ITEMS,
            self._records(check.control_tokens),
            lambda record: self._request(record, models),
            control_tokens=check.control_tokens,
            check=check,
            id_column=CUSTOM_ID,
        )
        for line in lines:
            custom_id = self._custom_ids.pop(line.line, None)
            entry: BlockLine | None
            if isinstance(line, Rejected):
                rejected = _described(line, self._faults.pop(line.line, None), custom_id)
                yield rejected
                entry = _refused_line(rejected, custom_id)
            else:
                self.num_used += 1
                entry = line.payload
                if entry.url != EMBEDDINGS:
                    yield NewJob(line.custom_id, PromptPayload(request=entry).stored())
                    continue
            if entry is None:
                continue
            first_line = first_line if block.lines else line.line
            block.add(entry)
            if block.is_full:
                yield _block_job(block, first_line)
        if block.lines:
            yield _block_job(block, first_line)

    def _models(self) -> ModelMap:
        configured = self.source.settings
        kind = load_kind(self.source.request.kind)
        mapped = kind.models(self.source.request.model, self.settings, kind.stages[0].name)
        profile = configured.profile(configured.profile_of(mapped))
        tasks: dict[str, str] = {}
        for model in profile.models:
            with suppress(ModelNotInstalledError):  # it may be installed only on the workers' machines
                tasks[model] = read_manifest(model_folder(configured.models_folder, model)).task
        return ModelMap(self.settings.model_map, profile.models, tasks.get)

    def _records(self, control_tokens: tuple[str, ...]) -> Iterator[Record | Rejected]:
        """Yield the records of the file with the ids of their jobs in place of their own.

        The second record with an id is refused, even if the first one will be, because the error file has
        the first.
        """
        (name,) = self.source.inputs
        for record in self.source.records(name):
            custom_id = None if isinstance(record, Rejected) else custom_id_of(record.fields)
            if isinstance(record, Rejected) or custom_id is None:
                yield record
                continue
            self._custom_ids[record.line] = custom_id
            is_writable = _is_writable(custom_id)
            duplicate = self._lines_by_id.claim(custom_id, record) if is_writable else None
            if duplicate is not None:
                yield duplicate
                continue
            is_usable = is_writable and find_control_token(custom_id, control_tokens) is None
            own = job_id(custom_id) if is_usable else custom_id  # an id that is refused must be seen
            yield Record(record.file, record.line, {**record.fields, CUSTOM_ID: own})

    def _request(self, record: Record, models: ModelMap) -> LineRequest:
        custom_id = self._custom_ids.get(record.line)
        fields = record.fields if custom_id is None else {**record.fields, CUSTOM_ID: custom_id}
        try:
            return read_request(fields, models)
        except LineFault as fault:
            self._faults[record.line] = fault
            raise InputError(str(fault), code=fault.code) from fault


class _LineCheck:
    """Compares the prompts of lines with the contexts of their models."""

    def __init__(self, source: IntakeSource, settings: PromptSettings, models: ModelMap) -> None:
        kind = load_kind(source.request.kind)
        checks = {
            model: prompt_check(kind, settings, model, source.settings)
            for model in models.models
            if models.task_of(model) == GENERATE
        }
        self._checks = {model: check for model, check in checks.items() if check is not None}
        tokens = (token for check in self._checks.values() for token in check.control_tokens)
        self.control_tokens = tuple(dict.fromkeys((*CONTROL_TOKENS, *tokens)))
        """Control tokens of all models, because a line may be for any of them."""

    def __call__(self, requests: Sequence[LineRequest]) -> list[InputError | Refusal | None]:
        """Return for each line why its prompt cannot be used, or None."""
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            if request.url != EMBEDDINGS:
                places[request.model].append(place)
        verdicts: list[InputError | Refusal | None] = [None] * len(requests)
        for model, own in places.items():
            if check := self._checks.get(model):
                payloads = [PromptPayload(request=requests[place]) for place in own]
                for place, verdict in zip(own, check(payloads), strict=True):
                    verdicts[place] = verdict
        return verdicts


def _described(rejected: Rejected, fault: LineFault | None, custom_id: str | None) -> Rejected:
    """Return the rejection with the line's id, and with the parameter that is at fault."""
    rejected = replace(rejected, id=None if custom_id is None else snippet(custom_id))
    if rejected.code == DUPLICATE:
        return replace(rejected, column=CUSTOM_ID)
    if fault is None:
        return rejected
    parameter = snippet(fault.parameter)
    return replace(rejected, column=parameter, reason=fault.reason, advice=fault.advice)


def _is_writable(custom_id: str) -> bool:
    """Return whether the error file may contain an id."""
    return invalid_unicode_at(custom_id) is None and find_secret(custom_id) is None


def _refused_line(rejected: Rejected, custom_id: str | None) -> RefusedLine | None:
    """Return a refused line as the error file has it.

    None is returned for a line whose id cannot be written there: it has none, or another line has the same.
    """
    if custom_id is None or rejected.code == DUPLICATE or not _is_writable(custom_id):
        return None
    place = f"{rejected.column} " if rejected.column else ""
    has_advice = ": " in rejected.reason  # errors of prompts and templates contain their own
    message = f"{place}{rejected.reason}" + ("" if has_advice else f": {rejected.advice}")
    return RefusedLine(custom_id=custom_id, failure=Failure(rejected.code, message, rejected.column))


def _block_job(block: BlockMaker, first_line: int) -> NewJob:
    return NewJob(f"block-{first_line}", PromptPayload(block=block.take()).stored())
