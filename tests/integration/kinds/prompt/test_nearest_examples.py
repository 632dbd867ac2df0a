"""The nearest examples by the real embedder stand in the prompts, the statements and the metrics of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from db.reports import JobResult, batch_status
from jobs.batch import BatchStatus
from jobs.provenance import CodeFacts
from kinds.prompt.examples import ExampleMetrics
from kinds.prompt.plan import plan_rows
from pressroom.results import Result, ResultReader
from storage import open_store
from tests.factories import job_ids, wait_until
from tests.fakes import MODEL, FakeEngine, fake_models
from workers.attempt import JobServices, WorkerIdentity
from workers.engine import EngineOptions
from workers.intake import BatchRequest
from workers.model_pool import EncoderModel, ModelPool, load_models
from workers.models.install import add_model
from workers.ports import open_ports
from workers.producer import submit
from workers.publisher import Publisher
from workers.runner import Runner
from workers.settings import DEFAULT_EMBEDDER, Profile, Settings
from workers.stages import close_stages

EXAMPLES = [
    {"id": "card", "question": "My card has been stolen, what should I do?", "intent": "lost_card"},
    {"id": "rate", "question": "Which exchange rate do you use for dollars?", "intent": "exchange_rate"},
    {"id": "cash", "question": "The cash machine gave me too little money.", "intent": "wrong_amount"},
    {"id": "name", "question": "I have married: how do I change my name?", "intent": "personal_details"},
]
ROWS = [
    {"id": "q1", "question": "I cannot find my card, somebody took it"},
    {"id": "q2", "question": "The ATM paid out less than I asked for"},
    {"id": "q3", "question": "My card has been stolen, what should I do?"},
]


@pytest.fixture(scope="module")
def embedder() -> Iterator[EncoderModel]:
    """The real embedder, loaded as a worker loads it."""
    add_model(DEFAULT_EMBEDDER, Settings().models_folder)
    options = EngineOptions(num_threads=1)
    pool = load_models(Settings().models_folder, [DEFAULT_EMBEDDER], engine="transformers", options=options)
    yield pool.encoder(DEFAULT_EMBEDDER, "embed")
    pool.close()


class Desk:
    """Submits tables with examples, and runs their jobs with a real embedder and a fake language model."""

    def __init__(self, database: Engine, folder: Path, embedder: EncoderModel) -> None:
        self.database = database
        self.url = f"file:{folder / 'store'}"
        self.store = open_store(self.url)
        self.engine = FakeEngine()
        self.settings = Settings(
            home=folder,
            profiles={"both": Profile(models=(MODEL, DEFAULT_EMBEDDER)), "small": Profile(models=(MODEL,))},
            commit_interval_seconds=0.01,
            backoff_seconds=0,
        )
        self._runner = Runner(
            database=database,
            services=JobServices(
                models=ModelPool([fake_models(self.engine).generator(MODEL), embedder]),
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

    def request(self, **settings: object) -> BatchRequest:
        values = {"template": "{{ question }}", "into": "intent", "num_examples": 2} | settings
        return BatchRequest(kind="prompt", model=MODEL, settings=values)

    def run(self, **settings: object) -> UUID:
        request = self.request(**settings)
        inputs = {"rows": ROWS, "examples": EXAMPLES}
        batch_id = submit(self.database, inputs, request, self.settings, s3_url=self.url).batch_id
        self._runner.run_shard(job_ids(self.database, batch_id), celery_task_id="task")
        wait_until(partial(self._is_final, batch_id), "the batch is finished")
        return batch_id

    def _is_final(self, batch_id: UUID) -> bool:
        close_stages(self.database, batch_id)
        return batch_status(self.database, batch_id).status is not BatchStatus.RUNNING

    def results(self, batch_id: UUID) -> dict[str, Result[JobResult]]:
        results = ResultReader(self.database, self.store).read_batch(batch_id)
        return {result.job.custom_id: result for result in results}

    def prompts(self) -> list[str]:
        return [bytes(request.prompt_ids).decode() for request in self.engine.requests]


@pytest.fixture
def desk(database: Engine, tmp_path: Path, embedder: EncoderModel) -> Iterator[Desk]:
    running = Desk(database, tmp_path, embedder)
    yield running
    running.close()


def predicate(result: Result[JobResult]) -> Mapping[str, Any]:
    own: Mapping[str, Any] = json.loads(result.statement)["predicate"]
    return own


def test_nearest_examples_are_in_prompts_statements_and_metrics(desk: Desk) -> None:
    batch_id = desk.run()
    assert batch_status(desk.database, batch_id).profile == "both"
    results = desk.results(batch_id)
    metrics = {name: ExampleMetrics.model_validate(each.job.metrics) for name, each in results.items()}
    examples = {name: each.examples for name, each in metrics.items()}
    assert [names[-1] for names in (examples["q1"], examples["q2"])] == ["card", "cash"]
    assert "card" not in examples["q3"]  # it is the row itself
    assert all(len(names) == 2 for names in examples.values())
    assert any(
        prompt.endswith(
            "user:My card has been stolen, what should I do?\nassistant:lost_card\n"
            "user:I cannot find my card, somebody took it\n"
        )
        for prompt in desk.prompts()
    )
    for name, result in results.items():
        parents = [each for each in _parents(predicate(result)) if each["role"] == "example"]
        assert tuple(each["name"] for each in parents) == examples[name]
        assert all(len(each["sha256"]) == 64 for each in parents)


def _parents(value: object) -> list[Mapping[str, Any]]:
    """Return the parents that a statement lists, wherever it does."""
    if isinstance(value, dict):
        own = value.get("parents")
        inner = [each for member in value.values() for each in _parents(member)]
        return [*own, *inner] if isinstance(own, list) else inner
    return []


def test_kept_rows_are_generated_again_only_if_the_examples_change(desk: Desk) -> None:
    desk.run(keep="bank")
    assert len(desk.engine.requests) == len(ROWS)
    desk.run(keep="bank")
    assert len(desk.engine.requests) == len(ROWS)
    desk.run(keep="bank", num_examples=1)
    assert len(desk.engine.requests) == 2 * len(ROWS)


def test_a_plan_with_examples_stores_nothing(desk: Desk, tmp_path: Path) -> None:
    request = desk.request(keep="bank")
    inputs = {"rows": ROWS, "examples": EXAMPLES}
    plan = plan_rows(desk.database, request, inputs, desk.settings, lambda _: None)
    assert (plan.num_new, plan.num_unchanged) == (3, 0)
    assert not list((tmp_path / "store").glob("resources/**/*"))
    desk.run(keep="bank")
    plan = plan_rows(desk.database, request, inputs, desk.settings, lambda _: None)
    assert (plan.num_new, plan.num_unchanged) == (0, 3)
