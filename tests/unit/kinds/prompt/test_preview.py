"""A preview shows the prompts that were sent."""

from __future__ import annotations

import io
from uuid import UUID

import pytest

from db.evidence import JobEvidence
from db.outcomes import StoredArtifact
from db.reports import JobResult
from jobs.inference import Usage
from jobs.job import JobStatus
from jobs.kind import Result as KindResult
from jobs.provenance import sha256_hex
from kinds.prompt.payload import PromptSettings
from kinds.prompt.preview import preview_row
from kinds.prompt.table import ResultTable
from kinds.prompt.truncation import Cut
from pressroom.results import Result
from tests.unit.kinds.prompt.test_kind import Model, completion, run

JOB_ID = UUID(int=1)


def stored(result: KindResult, row: dict[str, object]) -> Result[JobResult]:
    """The result of a row as it is read from the store."""
    job = JobResult(
        job_id=JOB_ID,
        custom_id="a",
        payload={"row": row},
        status=JobStatus.SUCCEEDED,
        attempt=1,
        worker_id=None,
        started_at=None,
        finished_at=None,
        error_code=None,
        error_message=None,
        metrics=result.metrics,
        usage=Usage(),
        artifact_name=None,
        object_key=None,
        byte_offset=None,
        num_bytes=None,
        sha256=None,
        media_type=None,
    )
    artifacts = tuple(
        StoredArtifact(
            name=each.name,
            object_key=each.name,
            sha256=sha256_hex(each.body),
            num_bytes=len(each.body),
            media_type=each.media_type,
        )
        for each in result.artifacts
    )
    evidence = JobEvidence(
        job_id=JOB_ID,
        batch_id=JOB_ID,
        custom_id="a",
        kind="prompt",
        attempt=1,
        usage=Usage(),
        artifacts=artifacts,
        statement=None,
    )
    return Result(job=job, evidence=evidence, bodies=[each.body for each in result.artifacts])


@pytest.mark.parametrize("max_words", [20, 2_000], ids=["cut", "whole"])
def test_prompt_of_a_row_is_the_one_that_was_sent(max_words: int) -> None:
    model = Model(completion("A lamp."), max_words)
    row: dict[str, object] = {"name": "lamp " * 1_000}
    result = stored(run(model, row, truncate="end"), row)
    settings = PromptSettings(template="About {{ name }}.", truncate="end", columns=("name",))
    shown = preview_row(result, settings, ResultTable(settings, io.StringIO()), {})
    assert shown.turns == (("user", model.prompts[-1]),)
    assert shown.columns["text"] == "A lamp."


def test_cut_is_read_from_its_text() -> None:
    cut = Cut("part: one", 0, 1_234_567)
    assert Cut.parse(str(cut)) == cut
