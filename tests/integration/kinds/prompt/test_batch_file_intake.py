"""Lines of OpenAI batch files become jobs; refused lines are counted, listed, and kept for the error file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from db.batches import batch_settings
from db.reports import batch_status
from db.tables import JobRow
from jobs.errors import ConfigurationError, InputError
from jobs.rejection import Rejected
from kinds.prompt.openai.blocks import BLOCK_TEXTS
from kinds.prompt.openai.intake import job_id
from kinds.prompt.openai.lines import CHAT, EMBEDDINGS, LineRequest, RefusedLine
from kinds.prompt.payload import PromptPayload
from workers.intake import BatchRequest, InputMissingError
from workers.producer import StrictIntakeError, Submission, submit
from workers.settings import Profile, Settings

MAP = {"gpt-4o-mini": "small", "text-embedding-3-small": "vectors"}
ODD_IDS = ("two\nlines", " spaces ", "x" * 5_000, "block-1", f"id-{'0' * 32}", "tab\t", "\u202eright")


def chat(custom_id: object = "a", **changes: object) -> str:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], **changes}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body})


def embedding(custom_id: object, text: object = "bread", **changes: object) -> str:
    body = {"model": "text-embedding-3-small", "input": text, **changes}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": EMBEDDINGS, "body": body})


class Desk:
    """Submits files, and keeps the lines that are refused. No model is installed."""

    def __init__(self, database: Engine, folder: Path) -> None:
        self.database = database
        self.file = folder / "batch.jsonl"
        self.rejected: list[Rejected] = []
        self.settings = Settings(
            home=folder,
            profiles={"both": Profile(models=("small", "vectors")), "cpu": Profile()},
        )

    def submit(self, *lines: str, strict: bool = False, **settings: object) -> Submission:
        self.file.write_text("\n".join(lines) + "\n")
        request = BatchRequest(
            kind="prompt", model="small", settings={"model_map": MAP, **settings}, strict=strict
        )
        return submit(self.database, {"rows": self.file}, request, self.settings, self.rejected.append)

    def jobs(self, batch_id: UUID) -> Mapping[str, PromptPayload]:
        """Return the payloads by the ids of the jobs, in order."""
        with Session(self.database) as session:
            rows = session.scalars(
                select(JobRow).where(JobRow.batch_id == batch_id).order_by(JobRow.position)
            )
            return {row.custom_id: PromptPayload.model_validate(row.payload) for row in rows}


@pytest.fixture
def desk(database: Engine, tmp_path: Path) -> Desk:
    return Desk(database, tmp_path)


def custom_ids(payload: PromptPayload) -> list[str]:
    return [line.custom_id for line in payload.block]


def test_a_batch_file_needs_no_template(desk: Desk, database: Engine) -> None:
    submission = desk.submit(chat("a"), embedding("b"), chat("c"), embedding("d"))
    jobs = desk.jobs(submission.batch_id)
    assert list(jobs) == ["a", "c", "block-2"]
    assert jobs["a"].request == LineRequest.model_validate(
        {
            "custom_id": "a",
            "url": CHAT,
            "model": "small",
            "body": json.dumps(json.loads(chat())["body"], separators=(",", ":")),
        }
    )
    assert custom_ids(jobs["block-2"]) == ["b", "d"]
    assert batch_settings(database, submission.batch_id)["input_format"] == "openai"
    report = batch_status(database, submission.batch_id)
    assert (report.profile, report.name, report.counts.rejected) == ("both", "batch.jsonl", 0)


def test_embedding_lines_share_jobs_of_a_bounded_size(desk: Desk) -> None:
    lines = [embedding(str(number)) for number in range(BLOCK_TEXTS + 10)]
    jobs = desk.jobs(desk.submit(*lines).batch_id)
    assert [len(payload.block) for payload in jobs.values()] == [BLOCK_TEXTS, 10]
    assert [name for payload in jobs.values() for name in custom_ids(payload)] == [
        str(number) for number in range(BLOCK_TEXTS + 10)
    ]


def test_a_refused_line_is_listed_and_kept_with_its_fault(desk: Desk, database: Engine) -> None:
    submission = desk.submit(chat("a"), chat("b", tools=[]), embedding("c"), chat("d", model="gpt-5"))
    (block,) = (payload.block for payload in desk.jobs(submission.batch_id).values() if payload.block)
    refused = [line for line in block if isinstance(line, RefusedLine)]
    assert [(line.custom_id, line.failure.code, line.failure.parameter) for line in refused] == [
        ("b", "unsupported_parameter", "tools"),
        ("d", "model_not_found", "model"),
    ]
    assert [(each.line, each.id, each.column, each.code) for each in desk.rejected] == [
        (2, "b", "tools", "unsupported_parameter"),
        (4, "d", "model", "model_not_found"),
    ]
    assert batch_status(database, submission.batch_id).counts.rejected == 2
    assert submission.dropped is not None
    assert (submission.dropped.num_records, submission.dropped.num_dropped) == (4, 2)


@pytest.mark.parametrize("custom_id", ODD_IDS)
def test_any_id_is_kept_as_it_is(desk: Desk, custom_id: str) -> None:
    jobs = desk.jobs(desk.submit(chat(custom_id), embedding(custom_id + "!")).batch_id)
    (own,) = (name for name, payload in jobs.items() if payload.request is not None)
    request = jobs[own].request
    assert request is not None
    assert request.custom_id == custom_id
    assert own == job_id(custom_id)
    assert own.isprintable()
    assert len(own) <= 200


@pytest.mark.parametrize("custom_id", ["a", *ODD_IDS])
def test_the_second_line_of_an_id_is_refused_and_not_in_the_error_file(desk: Desk, custom_id: str) -> None:
    jobs = desk.jobs(desk.submit(chat(custom_id), embedding(custom_id)).batch_id)
    assert [payload.block for payload in jobs.values()] == [()]
    assert [(each.line, each.column, each.code) for each in desk.rejected] == [
        (2, "custom_id", "duplicate_id")
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (chat(""), "invalid_custom_id"),
        (chat(5), "invalid_custom_id"),
        ("{", "json_invalid"),
        (chat("a\x00b"), "text_invalid_unicode"),
        (chat("AKIA" + "ABCDEFGHIJKLMNOP\n"), "secret_in_input"),
    ],
)
def test_a_line_without_an_id_that_can_be_written_is_only_listed(desk: Desk, line: str, code: str) -> None:
    jobs = desk.jobs(desk.submit(chat("good"), line).batch_id)
    assert list(jobs) == ["good"]
    assert [each.code for each in desk.rejected] == [code]
    assert "AKIA" not in str(desk.rejected[0])


def test_a_file_of_refused_lines_alone_has_a_job_for_the_error_file(desk: Desk) -> None:
    jobs = desk.jobs(desk.submit(chat("a", n=0), chat("b", n=0)).batch_id)
    assert custom_ids(jobs["block-1"]) == ["a", "b"]


def test_a_strict_submission_is_refused_for_one_line(desk: Desk) -> None:
    with pytest.raises(StrictIntakeError):
        desk.submit(chat("a"), chat("b", n=0), strict=True)


def test_a_damaged_first_line_does_not_hide_what_the_file_is(desk: Desk) -> None:
    assert list(desk.jobs(desk.submit("{", chat("a")).batch_id)) == ["a"]


def test_a_setting_without_an_effect_is_refused(desk: Desk) -> None:
    with pytest.raises(InputError, match="temperature has no effect"):
        desk.submit(chat(), temperature=0.5)


def test_a_map_of_models_for_a_table_is_refused(desk: Desk) -> None:
    with pytest.raises(InputError, match="model_map has an effect only on an OpenAI batch file"):
        desk.submit(chat(), template="{{ body }}")


def test_a_map_to_models_that_no_profile_has_is_refused(desk: Desk) -> None:
    with pytest.raises(ConfigurationError, match="no worker profile includes"):
        desk.submit(chat(), model_map={"gpt-4o-mini": "large"})


def test_a_file_that_is_no_batch_file_needs_a_template(desk: Desk) -> None:
    with pytest.raises(InputMissingError, match="there is no template"):
        desk.submit('{"custom_id": "a", "text": "Hello"}')


def test_the_models_of_a_batch_are_its_own_and_the_mapped_ones(desk: Desk) -> None:
    jobs: Any = desk.jobs(desk.submit(chat("a", model="small"), embedding("b", model="vectors")).batch_id)
    assert jobs["a"].request.model == "small"
    assert [line.model for line in jobs["block-2"].block] == ["vectors"]
