"""Long documents by map and reduce: parts that fit the model, a text about each, and one about these texts.

A batch whose settings have a `map_template` has the stage `map` before `generate`. In it, each row has a job
that passes the row on and generates nothing. If a row's document is longer than a part, the jobs of its parts
follow. The plan of the next stage puts the texts about the parts in the place of the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

from jobs.errors import InputError, PermanentError
from jobs.kind import Artifact, Result
from jobs.rejection import Refusal
from jobs.shown import json_text
from kinds.prompt.payload import PartOutput, PartPlace, PromptPayload, PromptSettings
from kinds.prompt.row import RowRequest, row_of

if TYPE_CHECKING:
    from workers.prompt_check import PromptCheck

PASSED_FILE = "parts.json"
"""Artifact of a job that passes its row on."""

_SLACK = 0.05
"""By which share of a part's length its end may move in either direction to the next good border."""

_BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"[.!?]\s|[。！？]"), re.compile(r"\s"))
"""Where a part may end, the best place first: paragraphs, lines, sentences, words."""

_NUM_BORDER_TOKENS = 3
"""Number of tokens for the border between the texts about two parts, and for tokens that join differently."""


class DocumentTooLongError(InputError):
    """A document has so many parts that the texts about them do not fit the model's context."""

    code = "document_too_long"


class PartsWithoutModelError(InputError):
    """Documents cannot be divided, because the model is not installed where the table is read."""

    code = "parts_without_model"


class PartFailedError(PermanentError):
    """There is no text about a part of the document."""

    code = "part_failed"


def part_settings(settings: PromptSettings) -> PromptSettings:
    """Return the settings for the parts of documents: those of the batch with the template `map_template`."""
    return settings.model_copy(
        update={
            "template": settings.map_template,
            "template_name": f"{settings.template_name}, map",
            "map_template": None,
            "max_tokens": settings.map_max_tokens,
            **dict.fromkeys(("json_schema", "regex", "labels", "logprobs", "examples_sha256", "embedder")),
            **dict.fromkeys(("choice", "stop", "settings_columns"), ()),
            "min_tokens": 0,
            "n": 1,
        }
    )


def settings_of(payload: PromptPayload, settings: PromptSettings) -> PromptSettings:
    """Return the settings of a job: those for parts if it is about a part of a document."""
    is_part = payload.part is not None and payload.part.number > 0
    return part_settings(settings) if is_part else settings


def split(text: str, ends: Sequence[int], part_tokens: int) -> list[str]:
    """Divide a text into parts of about the same length, each of at most `part_tokens` tokens.

    `ends` are the positions after each token. A part ends between paragraphs, lines, sentences or words if
    there is such a place near.

    >>> split("One two. Three four. Five six.", [3, 7, 8, 14, 19, 20, 25, 29, 30], 4)
    ['One two.', 'Three four.', 'Five six.']
    """
    count = num_parts(len(ends), part_tokens)
    slack = max(1, int(part_tokens * _SLACK))
    cuts = [0]
    for number in range(1, count):
        ideal = number * len(ends) // count
        first = max(cuts[-1], ends[max(0, ideal - 1 - slack)])
        last = max(first, ends[min(len(ends) - 1, ideal - 1 + slack)])
        cuts.append(_border(text, first, last, max(first, ends[ideal - 1])))
    cuts.append(len(text))
    parts = (text[start:end].strip() for start, end in pairwise(cuts))
    return [part for part in parts if part]


def num_parts(num_tokens: int, part_tokens: int) -> int:
    """Return the number of parts of a text with this number of tokens.

    >>> num_parts(1_000, 1_000), num_parts(1_001, 1_000), num_parts(9_000, 1_000)
    (1, 2, 10)
    """
    return 1 if num_tokens <= part_tokens else ceil(num_tokens / (part_tokens * (1 - 2 * _SLACK)))


def _border(text: str, first: int, last: int, ideal: int) -> int:
    """Return the best place to divide the text between two positions, near the ideal one."""
    for pattern in _BORDERS:
        if ends := [match.end() for match in pattern.finditer(text, first, last)]:
            return min(ends, key=lambda end: abs(end - ideal))
    return ideal


class PartsCheck:
    """Divides documents, and checks the prompts of the parts and of rows that fit.

    Call it with a sequence of payloads. `parts_of` then returns the parts of each of them.
    """

    def __init__(self, check: PromptCheck | None, settings: PromptSettings, model: str) -> None:
        """Raises PartsWithoutModelError."""
        if check is None:
            raise PartsWithoutModelError(
                f"documents are divided by the tokens of {model}, which is not installed here: install it "
                f"with `pressroom models add {model}`"
            )
        self._check = check
        self._settings = settings
        self._parts: dict[int, list[str]] = {}

    def __call__(self, payloads: Sequence[PromptPayload]) -> list[InputError | Refusal | None]:
        """Return for each payload the error in one of its prompts, or None."""
        self._parts.clear()
        checked: list[PromptPayload] = []
        owners: list[int] = []
        results: list[InputError | Refusal | None] = [None] * len(payloads)
        for number, payload in enumerate(payloads):
            try:
                parts = self._divide(payload)
            except InputError as error:
                results[number] = error
                continue
            self._parts[id(payload)] = parts
            own = [job for _, job in self._part_jobs("", payload, parts)] or [payload]
            checked += own
            owners += [number] * len(own)
        for number, result in zip(owners, self._check(checked), strict=True):
            results[number] = results[number] or result
        return results

    def jobs(self, custom_id: str, payload: PromptPayload) -> Iterator[tuple[str, PromptPayload]]:
        """Yield the jobs of a payload of the last call: one that passes it on, and those of its parts."""
        parts = self._parts.pop(id(payload))
        place = PartPlace(row_id=custom_id, number=0, count=len(parts))
        yield custom_id, payload.model_copy(update={"part": place})
        yield from self._part_jobs(custom_id, payload, parts)

    def _part_jobs(
        self, custom_id: str, payload: PromptPayload, parts: Sequence[str]
    ) -> Iterator[tuple[str, PromptPayload]]:
        column = map_column(self._settings)
        for number, part in enumerate(parts, start=1):
            place = PartPlace(row_id=custom_id, number=number, count=len(parts))
            row = {**payload.row, column: part}
            # No id of a row contains a no-break space, so the ids of parts differ from those of all rows.
            part_id = f"{custom_id}\N{NO-BREAK SPACE}part\N{NO-BREAK SPACE}{number}/{len(parts)}"
            yield part_id, PromptPayload.model_construct(row=row, part=place)

    def _divide(self, payload: PromptPayload) -> list[str]:
        """Return the parts of a document; none if it fits. Raises DocumentTooLongError or TemplateError."""
        text, size = payload.row.get(map_column(self._settings)), self._settings.map_part_tokens
        if not isinstance(text, str) or len(text.encode()) <= size:  # a token has at least one byte
            return []
        ends = self._check.tokenizer.token_ends(text)
        if len(ends) <= size:
            return []
        count, max_parts = num_parts(len(ends), size), self._max_parts(payload)
        if count > max_parts:
            max_tokens = max(size, int(max_parts * size * (1 - 2 * _SLACK)))
            raise DocumentTooLongError(
                f"the document has {len(ends):,} tokens, but at most {max_tokens:,} can be read: the texts "
                f"about more than {max_parts} parts of {size:,} tokens do not fit the model's context of "
                f"{self._check.max_context_tokens:,}: divide the document, or raise map_part_tokens"
            )
        return split(text, ends, size)

    def _max_parts(self, payload: PromptPayload) -> int:
        """Return the number of parts whose texts fit the prompt of the row."""
        row = payload.row | {map_column(self._settings): "."}
        request = RowRequest.of(row_of(PromptPayload(row=row), self._settings), self._settings, seed=0)
        messages = tuple((message.role, message.content) for message in request.prompt.messages)
        num_frame = len(self._check.tokenizer.encode_chat(messages, request.prompt.template_arguments))
        num_free = self._check.max_context_tokens - num_frame - request.sampling.max_new_tokens
        return max(0, num_free) // (self._settings.map_max_tokens + _NUM_BORDER_TOKENS)


def map_column(settings: PromptSettings) -> str:
    """Return the column of the table that contains the documents."""
    name = settings.map_column or ""
    return settings.column_names.get(name, name)


def passed_on(payload: PromptPayload, place: PartPlace) -> Result:
    """Return the result of a job that passes its row on to the next stage."""
    body = json_text({"num_parts": place.count}) + "\n"
    artifact = Artifact(name=PASSED_FILE, media_type="application/json", body=body.encode())
    return Result(artifacts=(artifact,), output=PartOutput(place=place, row=payload.row))


def part_result(result: Result, place: PartPlace) -> Result:
    """Return the result of a part's job with the output that the next stage reads."""
    text = result.artifacts[0].body.decode().strip()
    return replace(result, output=PartOutput(place=place, text=text))


def plan_rows(outputs: Iterable[tuple[str, PartOutput]]) -> Iterator[tuple[str, PromptPayload]]:
    """Yield the rows of the next stage, from the outputs of rows and their parts in the order of the jobs.

    A part whose job failed is None in its row.
    """
    row: Mapping[str, object] | None = None
    row_id = ""
    parts: list[str | None] = []
    for custom_id, output in outputs:
        if output.row is not None:
            if row is not None:
                yield row_id, PromptPayload.model_validate({"row": row, "parts": parts})
            row, row_id, parts = output.row, custom_id, [None] * output.place.count
        elif row is not None and output.place.row_id == row_id:
            parts[output.place.number - 1] = output.text
    if row is not None:
        yield row_id, PromptPayload.model_validate({"row": row, "parts": parts})


def check_parts(payload: PromptPayload) -> None:
    """Raise PartFailedError if there is no text about one of the row's parts."""
    failed = [str(number) for number, part in enumerate(payload.parts, start=1) if part is None]
    if failed:
        raise PartFailedError(
            f"there is no text about part {', '.join(failed)} of {len(payload.parts)}: its own error is in "
            "failed.jsonl; submit the row again"
        )
