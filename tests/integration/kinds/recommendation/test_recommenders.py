"""A catalogue and a log become releases, and only what changed is made again: on real Postgres."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from redis import Redis
from sqlalchemy import Engine, func, select, update

from db.batches import RunUnderWayError
from db.reports import batch_status
from db.schedules import Schedule
from db.stages import stage_outputs
from db.tables import JobRow, KeptResultRow, StatementRow
from jobs.batch import BatchStatus
from jobs.job import JobStatus
from jobs.provenance import CodeFacts, StatementAlteredError
from jobs.rejection import Rejected
from kinds.recommendation.export.outcome import export_outcome, text_plan
from kinds.recommendation.outputs import Change, CollectOutput, TextPlanOutput, Why
from kinds.recommendation.payload import RecommenderSettings
from kinds.recommendation.ranking.settings import PriceBand, Rules
from kinds.recommendation.recommender import Recommender, RecommenderSources, Release, ServingPlace
from kinds.recommendation.recommender_file import RecommenderFile, file_of
from kinds.recommendation.recommender_runs import STAGES, RecommenderSchedules, Run, start_run
from kinds.recommendation.recommenders import (
    IngestedRun,
    ingest_run,
    make_recommender,
    open_release,
    rollback,
    sources_of,
)
from kinds.recommendation.release import ReleaseReader, shown_items
from kinds.recommendation.serving.follower import Follower
from kinds.recommendation.store import recommenders, releases
from kinds.recommendation.tables import ReleaseRow
from kinds.recommendation.texts.text import TextPolicy, TextScope
from pressroom.summary import Summary
from storage.memory import MemoryStore
from tests.factories import job_ids, wait_until
from tests.fakes import MODEL, FakeEngine, fake_models
from workers.attempt import JobServices, WorkerIdentity
from workers.ports import open_ports
from workers.publisher import Publisher
from workers.runner import Runner
from workers.settings import Profile, Settings
from workers.stages import close_stages

CATEGORIES = ("boots", "lamps", "mugs", "tents")
NUM_ITEMS, NUM_USERS = 60, 120
TEXTS = 3
"""Number of the stage, in a batch that is made from files without an embedder."""

Rows = list[dict[str, str]]


def items() -> Rows:
    """Sixty items of four categories."""
    rng = random.Random(1)
    return [
        {
            "id": f"i{number}",
            "title": f"{rng.choice(('Alpin', 'Norda', 'Fels'))} {CATEGORIES[number % 4][:-1]} {number}",
            "category": CATEGORIES[number % 4],
            "colour": rng.choice(("red", "blue")),
            "price": str(rng.randrange(5, 90)),
            "currency": "EUR",
            "available": "true",
        }
        for number in range(NUM_ITEMS)
    ]


def event(user: int, item: int, at: int = 1760000000) -> dict[str, str]:
    return {"user": f"u{user}", "item": f"i{item}", "event": "view", "timestamp": str(at)}


def events() -> Rows:
    """Users who mostly keep to one category."""
    rng = random.Random(2)
    rows = []
    for user in range(NUM_USERS):
        own = [number for number in range(NUM_ITEMS) if number % 4 == user % 4]
        for _ in range(rng.randrange(3, 9)):
            number = rng.choice(own) if rng.random() < 0.8 else rng.randrange(NUM_ITEMS)
            rows.append(
                {"user": f"u{user}", "item": f"i{number}", "event": "view", "timestamp": "1760000000"}
            )
    return rows


class Shop:
    """A recommender, and a worker that runs what is submitted to it."""

    def __init__(self, database: Engine, folder: Path, config: Settings) -> None:
        self.database = database
        self.store = MemoryStore()
        self.engine = FakeEngine()
        self.rejected: list[Rejected] = []
        self.items, self.events = items(), events()
        self._folder, self.config = folder, config
        self._warm = fake_models(self.engine)
        self.runner = Runner(
            database=database,
            services=JobServices(
                models=self._warm,
                ports=open_ports(database, self.store, config),
                publisher=Publisher(self.store, CodeFacts("0", "test")),
                settings=config,
                worker=WorkerIdentity("worker-a", "cpu"),
            ),
            num_places=4,
            on_broken=lambda: None,
        )
        self.put(
            RecommenderSettings(rules=Rules(list_length=5, reserve=5), text_policy=TextPolicy(max_tries=1))
        )

    def put(self, own: RecommenderSettings, sources: RecommenderSources | None = None) -> None:
        """Make the recommender, or change it."""
        recommender = Recommender(
            id=recommenders.new_id(),
            tenant="default",
            name="shop",
            model=MODEL,
            settings=own.model_dump(mode="json"),
            sources=sources,
        )
        with self.database.begin() as connection:
            recommenders.put_recommender(connection, recommender)

    def close(self) -> None:
        self.runner.close(30.0)
        self._warm.close()

    @property
    def recommender(self) -> Recommender:
        return recommenders.find_recommender(self.database, "shop")

    def write(self) -> RecommenderSources:
        """The files as they are now."""
        for name, rows in (("catalogue", self.items), ("interactions", self.events)):
            with (self._folder / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return sources_of(self._folder / "catalogue.csv", self._folder / "interactions.csv")

    def ingest(self) -> IngestedRun:
        return ingest_run(
            self.database, self.store, self.recommender, self.write(), self.config, self.rejected.append
        )

    def submit(self, run: Run) -> UUID:
        with self.database.begin() as connection:
            return start_run(connection, run, self.config).batch_id

    def run(self, *, plan_only: bool = False) -> UUID:
        """Take the files in and run their batch to its end."""
        ingested = self.ingest()
        assert ingested.unchanged is None
        return self.finish(self.submit(replace(ingested.run, plan_only=plan_only)))

    def finish(self, batch_id: UUID) -> UUID:
        wait_until(lambda: self.work(batch_id), "the batch is finished", seconds=60)
        return batch_id

    def work(self, batch_id: UUID, *, stages: int = len(STAGES)) -> bool:
        """Run what is queued of the first stages; whether the batch is final."""
        for stage in range(stages):
            self.runner.run_shard(job_ids(self.database, batch_id, stage), celery_task_id="task")
        close_stages(self.database, batch_id)
        return batch_status(self.database, batch_id).status is not BatchStatus.RUNNING

    def published(self) -> Release:
        release_id = self.recommender.published_release_id
        assert release_id is not None
        return releases.get_release(self.database, release_id)

    def open(self, release: Release | None = None) -> ReleaseReader:
        return open_release(self.database, self.store, release or self.published())

    def shown(self, release: Release | None = None) -> dict[str, tuple[str, ...]]:
        """Item ids by user."""
        reader = self.open(release)
        return {
            one.user_id: tuple(
                ranked.item_id for ranked in shown_items(one, reader.manifest.rules, reader.withdrawn)
            )
            for block in reader.blocks()
            for one in block.lists
        }

    def num_texts(self) -> int:
        with self.database.connect() as connection:
            return connection.scalar(select(func.count()).select_from(KeptResultRow)) or 0

    def written(self, batch_id: UUID) -> set[str]:
        """Audiences that the batch wrote a text for."""
        return {change.audience for change in self.changes(batch_id)}

    def changes(self, batch_id: UUID) -> list[Change]:
        """Why the batch wrote its texts."""
        plans = stage_outputs(self.database, batch_id, "plan_texts", TextPlanOutput)
        return [change for _, plan in plans for change in plan.changes]


@pytest.fixture
def shop(database: Engine, tmp_path: Path) -> Iterator[Shop]:
    config = Settings(
        home=tmp_path / "home",
        profiles={"cpu": Profile(), "default": Profile(models=(MODEL,))},
        commit_interval_seconds=0.01,
        backoff_seconds=0,
    )
    running = Shop(database, tmp_path, config)
    yield running
    running.close()


def test_files_become_a_release_with_a_list_for_each_user_and_a_text_for_each_segment(shop: Shop) -> None:
    batch_id = shop.run()
    report = batch_status(shop.database, batch_id)
    assert (report.status, report.counts.failed) == (BatchStatus.FINISHED, 0), report.top_errors
    shown = shop.shown()
    seen = {(row["user"], row["item"]) for row in shop.events}
    assert shown.keys() == {f"u{number}" for number in range(NUM_USERS)}
    assert all(len(set(row)) == 5 for row in shown.values())
    assert not any((user, item) in seen for user, row in shown.items() for item in row)
    assert set(shop.open().text_index()) == {f"segment:{name}" for name in CATEGORIES}
    assert shop.num_texts() == 4


def test_texts_have_their_items_and_lists_their_model_as_parents(shop: Shop) -> None:
    batch_id = shop.run()
    manifest = shop.open().manifest
    parents = {
        stage: {
            (parent["role"], parent["name"], parent["sha256"])
            for job_id in job_ids(shop.database, batch_id, number)
            for parent in json.loads(statement_of(shop, job_id))["predicate"]["lineage"]["parents"]
        }
        for stage, number in (("rank", TEXTS - 2), ("texts", TEXTS))
    }
    assert ("model", "ranking model", manifest.model_sha256) in parents["rank"]
    assert ("catalogue", "catalogue", manifest.catalogue_sha256) in parents["rank"]
    featured = {item for entry in shop.open().text_index().values() for item in entry.items}
    assert {name for role, name, _ in parents["texts"] if role == "item"} == featured


def statement_of(shop: Shop, job_id: UUID) -> bytes:
    with shop.database.connect() as connection:
        return connection.execute(select(StatementRow.body).where(StatementRow.job_id == job_id)).scalar_one()


def test_an_item_that_expires_leaves_the_published_lists_by_the_clock(shop: Shop) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=8)
    for row in shop.items:
        row["available_until"] = ""
    shop.run()
    gone = shop.shown()["u0"][0]
    next(row for row in shop.items if row["id"] == gone)["available_until"] = expires_at.isoformat()
    shop.run()
    wait_until(lambda: datetime.now(UTC) > expires_at, "it has expired", seconds=20)
    assert all(gone not in row and len(row) == 5 for row in shop.shown().values())


def test_the_same_files_again_are_the_published_release(shop: Shop) -> None:
    shop.run()
    shop.events.reverse()
    assert shop.ingest().unchanged == shop.published()


def test_a_plan_tells_what_a_run_writes_and_writes_nothing(shop: Shop) -> None:
    planned = text_plan(shop.database, shop.run(plan_only=True))
    assert planned is not None
    assert (planned.num_texts, planned.num_to_write, planned.why) == (4, 4, {"new audience": 4})
    assert (shop.num_texts(), shop.recommender.published_release_id, shop.engine.requests) == (0, None, [])
    shop.run()
    assert shop.num_texts() == 4


def test_a_price_writes_exactly_the_texts_anew_that_name_it(shop: Shop) -> None:
    shop.run()
    before = shop.shown()
    index = shop.open().text_index()
    item_id = index["segment:boots"].items[0]
    row = next(row for row in shop.items if row["id"] == item_id)
    row["price"] = "123"
    batch_id = shop.run()
    assert shop.written(batch_id) == {name for name, entry in index.items() if item_id in entry.items}
    assert shop.num_texts() == 4 + len(shop.written(batch_id))
    assert shop.shown() == before
    changes = shop.changes(batch_id)
    assert all(change.why is Why.ROW and item_id in change.details for change in changes)


def test_a_price_beyond_the_band_takes_the_item_off_exactly_the_lists_that_had_it(shop: Shop) -> None:
    rules = Rules(list_length=5, reserve=5, price=PriceBand(max=100))
    shop.put(RecommenderSettings(rules=rules, text_policy=TextPolicy(scope=TextScope.NONE)))
    shop.run()
    before = shop.shown()
    dear = before["u0"][0]
    next(row for row in shop.items if row["id"] == dear)["price"] = "101"
    shop.run()
    after = shop.shown()
    assert {user for user in after if after[user] != before[user]} == {
        user for user, row in before.items() if dear in row
    }
    assert all(dear not in row and len(row) == 5 for row in after.values())


def test_a_price_that_no_text_names_writes_nothing(shop: Shop) -> None:
    shop.run()
    named = {item for entry in shop.open().text_index().values() for item in entry.items}
    row = next(row for row in shop.items if row["id"] not in named)
    row["price"] = "123"
    batch_id = shop.run()
    assert shop.written(batch_id) == set()
    assert shop.open().manifest.counts.num_texts_carried == 4


def test_an_item_that_is_sold_out_leaves_the_published_lists_before_new_ones_are_made(shop: Shop) -> None:
    shop.run()
    gone = next(iter(shop.shown().values()))[0]
    next(row for row in shop.items if row["id"] == gone)["available"] = "false"
    ingested = shop.ingest()
    assert ingested.num_withdrawn == 1
    assert releases.withdrawn_items(shop.database, shop.recommender.id) == {gone: "not available"}
    shown = shop.shown()
    assert all(gone not in row and len(row) == 5 for row in shown.values())  # the reserve moved up
    shop.finish(shop.submit(ingested.run))
    assert all(gone not in row for row in shop.shown().values())
    assert releases.withdrawn_items(shop.database, shop.recommender.id) == {}


def test_a_few_changed_users_leave_the_model_and_the_lists_of_all_others(shop: Shop) -> None:
    shop.run()
    before, model = shop.shown(), shop.open().manifest.model_sha256
    shop.events.append(event(7, 0, 1760000001))
    shop.run()
    after = shop.shown()
    assert shop.open().manifest.model_sha256 == model
    assert shop.open().manifest.counts.num_users_ranked == 1
    assert {user for user in after if after[user] != before[user]} <= {"u7"}


def test_many_changed_users_have_the_model_fitted_again(shop: Shop) -> None:
    shop.run()
    manifest = shop.open().manifest
    shop.events += [event(number, 0, 1760000001) for number in range(0, NUM_USERS, 2)]
    shop.run()
    assert shop.open().manifest.model_sha256 != manifest.model_sha256
    assert shop.open().manifest.fitted_inputs_sha256 == shop.open().manifest.inputs_sha256


def test_a_rollback_publishes_the_release_before_without_what_is_gone_by_now(shop: Shop) -> None:
    shop.run()
    first = shop.shown()
    gone = first["u0"][0]
    next(row for row in shop.items if row["id"] == gone)["available"] = "false"
    shop.run()
    assert rollback(shop.database, shop.store, shop.recommender, None).number == 1
    again = shop.shown()
    assert again["u0"][:4] == first["u0"][1:]
    assert all(gone not in row for row in again.values())
    shop.events.append(event(7, 0, 1760000001))
    shop.run()
    assert shop.published().number == 3


def test_a_run_that_began_earlier_and_ends_later_does_not_replace_the_newer_release(shop: Shop) -> None:
    slow = shop.submit(shop.ingest().run)
    shop.events.append(event(7, 0, 1760000001))
    newer = shop.run()
    shop.finish(slow)
    assert shop.published().batch_id == newer
    assert len(releases.list_releases(shop.database, shop.recommender.id)) == 2


def test_what_leaves_while_a_run_is_under_way_stays_off_the_release_that_it_makes(shop: Shop) -> None:
    shop.run()
    slow = shop.submit(replace(shop.ingest().run))
    gone = shop.shown()["u0"][0]
    releases.withdraw(shop.database, shop.recommender.id, {gone: "by hand"})
    shop.finish(slow)
    assert shop.published().batch_id == slow
    assert all(gone not in row for row in shop.shown().values())
    assert shop.ingest().unchanged is None  # it is in the catalogue: the next run decides anew
    shop.run()
    assert any(gone in row for row in shop.shown().values())


def test_a_run_that_began_before_a_rollback_does_not_undo_it(shop: Shop) -> None:
    shop.run()
    shop.events.append(event(7, 0, 1760000001))
    shop.run()
    shop.events.append(event(8, 0, 1760000001))
    under_way = shop.submit(shop.ingest().run)
    rollback(shop.database, shop.store, shop.recommender, None)
    shop.finish(under_way)
    assert shop.published().number == 1


def test_a_release_that_never_stood_is_not_gone_back_to(shop: Shop) -> None:
    slow = shop.submit(shop.ingest().run)
    shop.events.append(event(7, 0, 1760000001))
    shop.run()
    shop.finish(slow)
    shop.events.append(event(8, 0, 1760000001))
    shop.run()
    assert rollback(shop.database, shop.store, shop.recommender, None).number == 1


def test_a_run_of_files_leaves_the_rules_of_the_recommender_as_they_are(shop: Shop) -> None:
    sources = shop.write()
    rules = Rules(blocked_items=frozenset({"i0"}))
    shop.put(RecommenderSettings(rules=rules), sources)
    given = file_of(shop.recommender)
    made, _ = make_recommender(shop.database, given, "shop", shop.config, has_sources=False)
    assert RecommenderSettings.model_validate(made.settings).rules == rules
    make_recommender(shop.database, RecommenderFile(), "shop", shop.config, has_sources=False)
    assert RecommenderSettings.model_validate(shop.recommender.settings).rules == rules


def test_a_text_that_failed_is_told_and_written_by_the_next_run(shop: Shop) -> None:
    batch_id = shop.submit(shop.ingest().run)

    def texts_are_planned() -> bool:
        shop.work(batch_id, stages=TEXTS)
        return bool(job_ids(shop.database, batch_id, TEXTS))

    wait_until(texts_are_planned, "the texts are planned")
    lost = job_ids(shop.database, batch_id, TEXTS)[0]
    with shop.database.begin() as connection:
        connection.execute(update(JobRow).where(JobRow.id == lost).values(status=JobStatus.FAILED))
    shop.finish(batch_id)
    assert shop.open().manifest.counts.num_texts_failed == 1
    assert shop.num_texts() == 3
    assert shop.ingest().unchanged is None
    again = shop.run()
    assert (shop.num_texts(), len(shop.written(again))) == (4, 1)


def test_a_schedule_reads_the_files_itself_and_tells_what_it_refused(shop: Shop) -> None:
    shop.items.append({**shop.items[0], "id": "i99", "price": "a lot"})
    shop.put(RecommenderSettings(text_policy=TextPolicy(scope=TextScope.NONE)), shop.write())
    schedule = Schedule(
        id=shop.recommender.id,
        kind="recommendation",
        name=shop.recommender.name,
        timing=None,
    )
    with shop.database.begin() as connection:
        batch_id = RecommenderSchedules().start(connection, schedule, datetime.now(UTC), shop.config)
    shop.finish(batch_id)
    assert shop.published().batch_id == batch_id
    [(_, collected)] = stage_outputs(shop.database, batch_id, "collect", CollectOutput)
    assert (collected.num_rejected, collected.num_items) == (1, NUM_ITEMS), collected
    assert len(shop.shown()) == NUM_USERS


def test_a_recommender_has_one_run_of_its_own_beside_plans_and_files(shop: Shop) -> None:
    ingested = shop.ingest()
    shop.put(RecommenderSettings(text_policy=TextPolicy(scope=TextScope.NONE)), shop.write())
    own = Run(recommender=shop.recommender, as_of=datetime.now(UTC))
    under_way = shop.submit(own)
    with pytest.raises(RunUnderWayError, match=str(under_way)):
        shop.submit(own)

    shop.submit(replace(own, plan_only=True))
    shop.submit(replace(own, plan_only=True))
    shop.submit(ingested.run)
    shop.finish(under_way)
    shop.finish(shop.submit(own))


def test_text_that_was_altered_is_named_and_plain_words_stand_in_its_place(
    shop: Shop, tmp_path: Path
) -> None:
    batch_id = shop.run()
    with shop.database.begin() as connection:
        one = connection.execute(
            select(KeptResultRow.key, KeptResultRow.value).order_by(KeptResultRow.key).limit(1)
        ).one()
        forged = {**one.value, "headline": "Forged"}
        connection.execute(update(KeptResultRow).where(KeptResultRow.key == one.key).values(value=forged))
    summary = summary_of(shop, batch_id)
    outcome = export_outcome(shop.database, shop.store, summary, tmp_path)
    assert [altered.code for altered in summary.altered] == ["statement_altered"]
    assert outcome.figures is not None
    for name in ("texts.jsonl", "recommendations.jsonl", "index.html"):
        assert "Forged" not in (tmp_path / name).read_text()
    with pytest.raises(StatementAlteredError, match="text in Postgres"):
        shop.open().find_texts([one.key])


def test_release_whose_row_names_another_manifest_is_named_and_left_out(shop: Shop, tmp_path: Path) -> None:
    first = shop.run()
    earlier = shop.published().manifest_sha256
    shop.items[0]["price"] = "1.50"
    second = shop.run()
    with shop.database.begin() as connection:
        connection.execute(
            update(ReleaseRow).where(ReleaseRow.batch_id == second).values(manifest_sha256=earlier)
        )
    summary = summary_of(shop, second)
    assert export_outcome(shop.database, shop.store, summary, tmp_path).figures is None
    assert [altered.custom_id for altered in summary.altered] == ["release 2"]
    assert not (tmp_path / "recommendations.jsonl").exists()
    assert export_outcome(shop.database, shop.store, summary_of(shop, first), tmp_path).figures is not None


def summary_of(shop: Shop, batch_id: UUID) -> Summary:
    return Summary(report=batch_status(shop.database, batch_id), elapsed_seconds=1, startup_seconds=0)


@pytest.mark.parametrize("scope", [TextScope.USER, TextScope.ITEM])
def test_texts_for_each_user_or_item_are_found_again(shop: Shop, scope: TextScope) -> None:
    rules = Rules(list_length=5, reserve=5)
    shop.put(RecommenderSettings(rules=rules, text_policy=TextPolicy(scope=scope, max_tries=1)))
    shop.run()
    reader = shop.open()
    index = dict(reader.text_index())
    for block in reader.blocks():
        index |= block.text_index
    expected = {f"user:u{n}" for n in range(NUM_USERS)}
    if scope is TextScope.ITEM:
        expected = {f"item:{item}" for row in shop.shown().values() for item in row}
    assert set(index) == expected
    assert set(reader.find_texts([entry.key for entry in index.values()])) == {e.key for e in index.values()}
    num_texts = shop.num_texts()
    shop.events.append(event(7, 0, 1760000001))
    assert len(shop.written(shop.run())) <= 1 + 5 * (scope is TextScope.ITEM)
    assert shop.num_texts() - num_texts <= 1 + 5 * (scope is TextScope.ITEM)


def test_published_release_is_served_automatically_and_what_leaves_is_gone_there_too(
    shop: Shop, redis_url: str, redis_numbers: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = next(redis_numbers)
    monkeypatch.setenv("SERVING", redis_url)
    with shop.database.begin() as connection:
        place = ServingPlace(url_variable="SERVING", staging=number)
        recommenders.put_recommender(connection, replace(shop.recommender, serving=place))
    follower = Follower(shop.database, shop.store)
    with (
        Redis.from_url(redis_url, decode_responses=True) as served,
        Redis.from_url(f"{redis_url.rpartition('/')[0]}/{number}") as staging,
    ):
        staging.flushdb()  # another test may have had it
        try:
            assert follower.look() == []
            shop.run()
            assert [one.num_rows for one in follower.look()] == [NUM_USERS]
            assert follower.look() == []
            shown = json.loads(str(served.get("rec:u0")))["items"]
            releases.withdraw(shop.database, shop.recommender.id, {shown[0]["item"]: "by hand"})
            follower.look()
            again = json.loads(str(served.get("rec:u0")))["items"]
            assert [one["item"] for one in again][:4] == [one["item"] for one in shown][1:]
        finally:
            served.flushdb()
            staging.flushdb()
