"""Long documents are read in parts, and the texts about the parts take the place of the document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from db.stages import NewJob
from jobs.errors import InputError
from jobs.inference import Inference
from jobs.kind import Context, PlanContext
from jobs.rejection import Rejected
from kinds.prompt.columns import check_settings
from kinds.prompt.intake import read_table
from kinds.prompt.kind import PromptKind
from kinds.prompt.parts import PartFailedError, PartsWithoutModelError, num_parts, split
from kinds.prompt.payload import PartOutput, PromptPayload, PromptSettings
from tests.tiny_model import write_tiny_model
from tests.unit.jobs.replies import JobContext, Replies
from workers.intake import BatchRequest, IntakePlan, IntakeSource
from workers.models.install import add_model
from workers.models.sources import FolderSource
from workers.settings import Settings

SETTINGS: dict[str, object] = {
    "template": "Sum up: {{ text }}",
    "map_template": "Part of {{ title }}: {{ text }}",
    "map_column": "text",
    "map_part_tokens": 20,
    "map_max_tokens": 5,
    "max_tokens": 8,
    "into": "summary",
}
LONG = "\n\n".join(f"Chapter {number} tells of the sea." for number in range(12))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model whose context holds 128 tokens, which are words and marks."""
    folder = tmp_path_factory.mktemp("models")
    source = write_tiny_model(tmp_path_factory.mktemp("source"))
    add_model("tiny", folder, FolderSource(source))
    return folder


def plan(rows: Iterable[Mapping[str, object]], models: Path, **settings: object) -> IntakePlan:
    values = {**SETTINGS, **settings}
    return read_table(
        IntakeSource(
            inputs={"rows": [dict(row) for row in rows]},
            request=BatchRequest(kind="prompt", model="tiny", settings=values),
            options=PromptSettings.model_validate(values),
            connection=cast("Connection", None),  # a table needs no database
            settings=Settings(home=Path("/nonexistent"), models_dir=models),
            on_rejected=lambda _: None,
            on_note=lambda _: None,
        )
    )


def ends_of(text: str) -> list[int]:
    return [match.end() for match in re.finditer(r"\S+", text)]


PIECES = ("sea ", "end. ", "line\n", "Kap.\n\n", "。")


@given(st.lists(st.sampled_from(PIECES), min_size=1), st.integers(1, 60))
def test_parts_are_short_enough_and_lose_nothing(pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    ends = ends_of(text)
    parts = split(text, ends, size)
    assert "".join("".join(parts).split()) == "".join(text.split())
    if size >= 20:  # a shorter part cannot be divided at borders within five per cent
        assert all(len(ends_of(part)) <= size for part in parts)
        assert len(parts) == num_parts(len(ends), size)


def test_parts_end_between_paragraphs_if_there_is_one_near() -> None:
    parts = split(LONG, ends_of(LONG), 40)
    assert all(part.startswith("Chapter") and part.endswith("sea.") for part in parts)


def test_row_that_fits_is_passed_on_and_a_long_one_is_followed_by_its_parts(models: Path) -> None:
    rows = [{"id": "short", "title": "A", "text": "The sea."}, {"id": "long", "title": "B", "text": LONG}]
    planned = plan(rows, models)
    jobs = [job for job in planned.jobs if isinstance(job, NewJob)]
    payloads = [PromptPayload.model_validate(job.payload) for job in jobs]
    assert planned.stages == ("map", "generate")
    assert planned.num_records is not None
    assert planned.num_records() == 2
    assert [job.custom_id.replace("\xa0", " ") for job in jobs][:3] == ["short", "long", "long part 1/5"]
    assert [payload.part.number for payload in payloads if payload.part] == [0, 0, 1, 2, 3, 4, 5]
    assert payloads[1].row["text"] == LONG
    assert payloads[2].row["title"] == "B"


def test_document_of_too_many_parts_is_refused_with_both_lengths(models: Path) -> None:
    rows = [{"id": "a", "title": "A", "text": LONG * 9}, {"id": "b", "title": "B", "text": "The sea."}]
    jobs = list(plan(rows, models).jobs)
    refused = [job for job in jobs if isinstance(job, Rejected)]
    assert [(line.code, line.line) for line in refused] == [("document_too_long", 1)]
    # 12 chapters of 7 tokens, 9 times; 13 parts of 20 tokens, which may be a tenth shorter
    assert "has 756 tokens, but at most 234 can be read" in refused[0].reason
    assert [job.custom_id for job in jobs if isinstance(job, NewJob)] == ["b"]


def test_documents_are_divided_only_where_the_model_is_installed(tmp_path: Path) -> None:
    with pytest.raises(PartsWithoutModelError, match="models add tiny"):
        list(plan([{"title": "A", "text": "The sea."}], tmp_path).jobs)


class Outputs:
    """Implements jobs.kind.PlanContext over the outputs of a stage."""

    settings: dict[str, object] = SETTINGS
    num_failed = 0

    def __init__(self, outputs: list[tuple[str, PartOutput]]) -> None:
        self._outputs = outputs

    def outputs(self, output_type: object, stage: str | None = None) -> Iterable[tuple[str, PartOutput]]:
        assert output_type is PartOutput
        return self._outputs


def test_texts_about_the_parts_take_the_place_of_the_document(models: Path) -> None:
    rows = [{"id": "long", "title": "B", "body": LONG}, {"id": "short", "title": "A", "body": "The sea."}]
    planned = plan(rows, models, column_names={"text": "body"})
    model = Replies([f"Text {number}." for number in range(1, 9)])
    outputs = []
    for job in planned.jobs:
        assert isinstance(job, NewJob)
        context = JobContext(cast("Inference", model), settings=planned.settings, custom_id=job.custom_id)
        result = PromptKind().run(PromptPayload.model_validate(job.payload), cast("Context", context))
        assert isinstance(result.output, PartOutput)
        outputs.append((job.custom_id, PartOutput.model_validate_json(result.output.model_dump_json())))
    assert len(model.asked) == 5  # the rows themselves generate nothing
    assert model.questions[0].startswith("Part of B: Chapter 0")
    assert {sampling.max_new_tokens for _, sampling in model.asked} == {5}

    long, short = PromptKind().plan("generate", cast("PlanContext", Outputs(outputs)))
    context = JobContext(cast("Inference", model), settings=planned.settings)
    for _, payload in (long, short):
        PromptKind().run(payload, cast("Context", context))
    assert (long[0], short[0]) == ("long", "short")
    assert model.questions[5] == "Sum up: Text 1.\n\nText 2.\n\nText 3.\n\nText 4.\n\nText 5."
    assert model.questions[6] == "Sum up: The sea."
    assert long[1].row["body"] == LONG


def test_row_whose_part_failed_fails_and_names_the_part(models: Path) -> None:
    planned = plan([{"id": "long", "title": "B", "text": LONG}], models)
    model = Replies(["Text."])
    context = JobContext(cast("Inference", model), settings=planned.settings)
    outputs = []
    for number, job in enumerate(planned.jobs):
        assert isinstance(job, NewJob)
        result = PromptKind().run(PromptPayload.model_validate(job.payload), cast("Context", context))
        if number != 3:
            outputs.append((job.custom_id, cast("PartOutput", result.output)))
    ((_, payload),) = PromptKind().plan("generate", cast("PlanContext", Outputs(outputs)))
    with pytest.raises(PartFailedError, match="about part 3 of 5"):
        PromptKind().run(payload, cast("Context", context))


def test_parts_without_their_row_are_left_out() -> None:
    place = {"row_id": "a", "count": 1, "number": 1}
    orphan = PartOutput.model_validate({"place": place, "text": "Text."})
    assert list(PromptKind().plan("generate", cast("PlanContext", Outputs([("a part 1/1", orphan)])))) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"map_column": "txt"}, "did you mean 'text'"),
        ({"map_template": None}, "there is no template for parts"),
        ({"map_template": "{{ text }} {{ author }}"}, "'author'"),
    ],
)
def test_settings_for_parts_that_do_not_fit_are_refused(changes: dict[str, object], reason: str) -> None:
    values = {**SETTINGS, "columns": ("title", "text"), "into": "summary", **changes}
    with pytest.raises(InputError, match=reason):
        check_settings(PromptSettings.model_validate(values))
