"""A table is submitted again, and only what changed is generated again: on real Postgres."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, delete, select

from db.reports import batch_status, stream_results
from db.stages import stage_outputs
from db.tables import BatchRow, KeptResultRow, StatementRow
from jobs.batch import BatchStatus
from jobs.errors import InputError
from jobs.provenance import CodeFacts
from jobs.rejection import Rejected
from kinds.prompt.export import export_results
from kinds.prompt.payload import PromptOutput
from kinds.prompt.plan import KeepPlan, PlanWithoutKeepError, plan_rows
from pressroom.results import ResultReader
from pressroom.summary import Summary
from storage.memory import MemoryStore
from tests.factories import job_ids, wait_until
from tests.fakes import MODEL, FakeEngine, fake_models
from workers.attempt import JobServices, WorkerIdentity
from workers.intake import BatchRequest
from workers.ports import open_ports
from workers.producer import submit
from workers.publisher import Publisher
from workers.runner import Runner
from workers.settings import Profile, Settings
from workers.stages import close_stages

NAMES = ("tent", "lamp", "mug", "boots", "rope")

Rows = list[dict[str, object]]


def rows(*names: str) -> Rows:
    return [{"id": f"p{number}", "name": name} for number, name in enumerate(names)]


class Desk:
    """Submits tables, and runs their jobs with a worker whose engine counts its requests."""

    def __init__(self, database: Engine, home: Path) -> None:
        self.database = database
        self.store = MemoryStore()
        self.engine = FakeEngine()
        self.rejected: list[Rejected] = []
        self.settings = Settings(
            home=home,
            profiles={"default": Profile(models=(MODEL,))},
            commit_interval_seconds=0.01,
            backoff_seconds=0,
        )
        self._models = fake_models(self.engine)
        self._runner = Runner(
            database=database,
            services=JobServices(
                models=self._models,
                ports=open_ports(database, self.store, self.settings),
                publisher=Publisher(self.store, CodeFacts("0", "test")),
                settings=self.settings,
                worker=WorkerIdentity("worker-a", "cpu"),
            ),
            num_places=4,
            on_broken=lambda: None,
        )

    def close(self) -> None:
        self._runner.close(30.0)
        self._models.close()

    def request(self, **settings: object) -> BatchRequest:
        values = {"template": "Sell a {{ name }}.", "keep": "shop"} | settings
        return BatchRequest(kind="prompt", model=MODEL, settings=values)

    def submit(self, table: Rows, **settings: object) -> UUID:
        request = self.request(**settings)
        submission = submit(self.database, {"rows": table}, request, self.settings, self.rejected.append)
        return submission.batch_id

    def finish(self, *batch_ids: UUID) -> None:
        """Run the batches together, to their ends."""
        ids = [job_id for batch_id in batch_ids for job_id in job_ids(self.database, batch_id)]
        self._runner.run_shard(ids, celery_task_id="task")
        for batch_id in batch_ids:
            wait_until(partial(self._is_final, batch_id), "the batch is finished")

    def run(self, table: Rows, **settings: object) -> UUID:
        batch_id = self.submit(table, **settings)
        self.finish(batch_id)
        return batch_id

    def _is_final(self, batch_id: UUID) -> bool:
        close_stages(self.database, batch_id)
        return batch_status(self.database, batch_id).status is not BatchStatus.RUNNING

    def num_generated(self, table: Rows, **settings: object) -> int:
        """Number of requests that a batch with this table sends to the engine."""
        before = len(self.engine.requests)
        batch_id = self.run(table, **settings)
        assert batch_status(self.database, batch_id).counts.succeeded == len(table)
        return len(self.engine.requests) - before

    def texts(self, batch_id: UUID) -> dict[str, str]:
        results = ResultReader(self.database, self.store).read_batch(batch_id)
        return {result.job.custom_id: result.bodies[0].decode() for result in results}

    def are_kept(self, batch_id: UUID) -> dict[str, bool]:
        outputs = stage_outputs(self.database, batch_id, "generate", PromptOutput)
        return {custom_id: output.is_kept for custom_id, output in outputs}

    def predicate(self, batch_id: UUID) -> Any:
        """What the statement of the batch's only row says."""
        (result,) = ResultReader(self.database, self.store).read_batch(batch_id)
        return json.loads(result.statement)["predicate"]

    def plan(self, table: Rows, **settings: object) -> KeepPlan:
        request = self.request(**settings)
        return plan_rows(self.database, request, {"rows": table}, self.settings, self.rejected.append)


@pytest.fixture
def desk(database: Engine, tmp_path: Path) -> Iterator[Desk]:
    running = Desk(database, tmp_path / "home")
    yield running
    running.close()


def test_second_run_generates_nothing_and_gives_the_same_texts(desk: Desk) -> None:
    first = desk.run(rows(*NAMES), temperature=0.8)
    assert len(desk.engine.requests) == len(NAMES)
    second = desk.run(rows(*NAMES), temperature=0.8)
    assert len(desk.engine.requests) == len(NAMES)
    assert desk.texts(second) == desk.texts(first)
    assert set(desk.are_kept(first).values()) == {False}
    assert set(desk.are_kept(second).values()) == {True}
    assert batch_status(desk.database, second).usage.new_tokens == 0


def test_export_counts_the_rows_that_have_not_changed(desk: Desk, tmp_path: Path) -> None:
    desk.run(rows(*NAMES))
    batch_id = desk.run(rows("kettle", *NAMES[1:]))
    summary = Summary(report=batch_status(desk.database, batch_id), elapsed_seconds=1, startup_seconds=0)
    export_results(desk.database, desk.store, summary, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (record["num_rows"], record["num_kept"]) == (5, 4)
    assert "4 rows that have not changed" in (tmp_path / "out" / "index.html").read_text()


def test_statement_of_a_kept_text_names_the_job_and_the_statement_that_made_it(desk: Desk) -> None:
    first = desk.run(rows("tent"))
    second = desk.run(rows("tent"))
    (job_id,) = job_ids(desk.database, first)
    with desk.database.connect() as connection:
        sha256 = connection.scalar(select(StatementRow.sha256).where(StatementRow.job_id == job_id))
    predicate = desk.predicate(second)
    assert predicate["lineage"]["parents"] == [{"role": "kept", "name": str(job_id), "sha256": sha256}]
    assert predicate["generations"] == []


def test_one_changed_row_generates_one(desk: Desk) -> None:
    desk.run(rows(*NAMES))
    changed = rows(*NAMES)
    changed[2]["name"] = "kettle"
    assert desk.num_generated(changed) == 1


def test_rows_that_are_numbered_again_generate_nothing_and_keep_their_texts(desk: Desk) -> None:
    first = desk.run(rows(*NAMES), temperature=0.8)
    moved = desk.run(rows("compass", *NAMES), temperature=0.8)
    assert len(desk.engine.requests) == len(NAMES) + 1
    assert list(desk.texts(moved).values())[1:] == list(desk.texts(first).values())


@pytest.mark.parametrize(
    "changed",
    [
        {"template": "Describe a {{ name }}."},
        {"system": "Be brief."},
        {"temperature": 0.5},
        {"regex": "an answer .*"},
        {"keep": "another"},
    ],
)
def test_another_template_sampling_constraint_or_name_generates_all(
    desk: Desk, changed: dict[str, object]
) -> None:
    desk.run(rows(*NAMES))
    assert desk.num_generated(rows(*NAMES), **changed) == len(NAMES)
    assert desk.num_generated(rows(*NAMES)) == 0


def test_batch_without_a_name_keeps_nothing_and_uses_nothing(desk: Desk) -> None:
    desk.run(rows(*NAMES), keep=None)
    assert desk.num_generated(rows(*NAMES)) == len(NAMES)
    assert desk.num_generated(rows(*NAMES), keep=None) == len(NAMES)


def test_two_batches_at_once_give_the_same_texts_and_keep_each_once(desk: Desk) -> None:
    table = rows(*NAMES)
    first, second = desk.submit(table, temperature=0.8), desk.submit(table, temperature=0.8)
    desk.finish(first, second)
    assert desk.texts(first) == desk.texts(second)
    with desk.database.connect() as connection:
        subjects = list(connection.scalars(select(KeptResultRow.subject)))
    assert sorted(subjects) == [f"p{number}" for number in range(len(NAMES))]
    assert desk.num_generated(table, temperature=0.8) == 0


def test_deleting_the_batch_that_made_a_text_leaves_the_text_and_the_names_of_job_and_statement(
    desk: Desk,
) -> None:
    first = desk.run(rows("tent"))
    texts = desk.texts(first)
    (job_id,) = job_ids(desk.database, first)
    with desk.database.begin() as connection:
        connection.execute(delete(BatchRow).where(BatchRow.id == first))
    assert list(stream_results(desk.database, first)) == []
    second = desk.run(rows("tent"))
    assert len(desk.engine.requests) == 1
    assert desk.texts(second) == texts
    (parent,) = desk.predicate(second)["lineage"]["parents"]
    assert parent["name"] == str(job_id)


def test_plan_counts_new_changed_and_unchanged_rows_and_writes_nothing(desk: Desk) -> None:
    planned = desk.plan(rows(*NAMES))
    assert (planned.num_new, planned.num_changed, planned.num_unchanged) == (len(NAMES), 0, 0)
    assert (planned.num_tokens, planned.seconds) == (None, None)
    assert "not measured yet" in list(planned.lines())[-1]
    desk.run(rows(*NAMES))
    changed = rows("hammock", *NAMES[1:], "stove")
    planned = desk.plan(changed)
    assert (planned.num_new, planned.num_changed, planned.num_unchanged) == (1, 1, len(NAMES) - 1)
    assert planned.num_tokens == 2 * 3  # the engine writes three tokens for each row
    assert planned.seconds is not None
    assert planned.as_json()["estimated_tokens"] == 6
    with desk.database.connect() as connection:
        assert len(list(connection.scalars(select(BatchRow.id)))) == 1
    assert desk.num_generated(changed) == 2


def test_plan_of_unchanged_rows_says_that_there_is_nothing_to_generate(desk: Desk) -> None:
    desk.run(rows(*NAMES))
    assert list(desk.plan(rows(*NAMES)).lines()) == [
        "rows       0 new, 0 changed, 5 unchanged",
        "cost       nothing to generate",
    ]


def test_plan_names_refused_rows(desk: Desk) -> None:
    planned = desk.plan([*rows(*NAMES), {"id": "p0", "name": "the same id again"}])
    assert (planned.num_new, planned.num_rejected) == (len(NAMES), 1)
    assert [each.code for each in desk.rejected] == ["duplicate_id"]


def test_plan_without_a_name_is_refused(desk: Desk) -> None:
    with pytest.raises(PlanWithoutKeepError, match="--keep NAME"):
        desk.plan(rows(*NAMES), keep=None)


def test_name_for_an_openai_batch_file_is_refused(desk: Desk, tmp_path: Path) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    file = tmp_path / "batch.jsonl"
    file.write_text(json.dumps(line) + "\n")
    request = desk.request(template="", model_map={"gpt-4o-mini": MODEL})
    with pytest.raises(InputError, match="are not kept") as refused:
        submit(desk.database, {"rows": file}, request, desk.settings)
    assert refused.value.code == "keep_of_batch_file"
