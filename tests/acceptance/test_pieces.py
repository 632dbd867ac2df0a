"""The pieces started one by one, as several machines run them, on servers that URLs name or the home does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
from redis import Redis
from sqlalchemy.engine import make_url

from pressroom import (
    BatchNotFoundError,
    BatchStatus,
    BatchStatusReport,
    Client,
    DatabaseAwayError,
    InputError,
    JobNotFoundError,
    Rejected,
    ServiceUrls,
    StrictIntakeError,
    WaitTimeoutError,
)
from tests.acceptance.running import PATIENCE_SECONDS, PressroomRun, pressroom, write_briefs, write_script
from tests.items import MAX_HELD, CountedItems

READY = "SELECT count(*) FROM workers WHERE ready_at IS NOT NULL"
RUNNING = "SELECT count(*) FROM jobs WHERE status = 'running'"
OPEN_BATCHES = "SELECT count(*) FROM batches WHERE status = 'running'"


@pytest.fixture(scope="module")
def urls(
    services: ServiceUrls, services_admin: Callable[[str], None], redis_numbers: Iterator[int]
) -> ServiceUrls:
    """An empty database without tables, an empty Redis database, a bucket that does not exist yet."""
    name = f"pieces_{uuid4().hex}"
    services_admin(f"CREATE DATABASE {name}")
    redis_url = services.redis_url.rpartition("/")[0] + f"/{next(redis_numbers)}"
    with Redis.from_url(redis_url) as client:
        client.flushdb()
    head, _, options = services.s3_url.partition("?")
    return ServiceUrls(
        db_url=make_url(services.db_url).set(database=name).render_as_string(hide_password=False),
        redis_url=redis_url,
        s3_url=f"{head.rpartition('/')[0]}/{name.replace('_', '-')}?{options}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A dispatcher and a worker under way."""

    home: Path
    environment: dict[str, str]
    hold: Path
    """While this file exists the engine stands still."""
    dispatcher: PressroomRun
    worker: PressroomRun

    def command(self, *arguments: str | Path) -> tuple[int, str]:
        """Another command in a process of its own; exit status and stdout."""
        with pressroom(self.home, *arguments, **self.environment) as run:
            return run.finish_text()


@pytest.fixture(scope="module")
def pieces(
    urls: ServiceUrls, tmp_path_factory: pytest.TempPathFactory, model_folder: Path
) -> Iterator[Pieces]:
    """`db upgrade`, then dispatcher and worker, on the URLs."""
    folder = tmp_path_factory.mktemp("pieces")
    environment = {**asdict(urls), **scripted(folder, model_folder)}
    with ExitStack() as exits:
        upgrade = exits.enter_context(pressroom(folder / "home", "db", "upgrade", **environment))
        code, output = upgrade.finish_text()
        assert (code, output[:15]) == (0, "the database is"), upgrade.stderr
        yield start(exits, folder, environment)


def scripted(folder: Path, model_folder: Path) -> dict[str, str]:
    script = write_script(folder / "script.json", hold_file=str(folder / "hold"))
    return {
        "engine": "scripted",
        "script": str(script),
        "models_dir": str(model_folder.parent),
        "num_slots": "4",
        "max_jobs_in_flight": "4",
    }


def start(exits: ExitStack, folder: Path, environment: dict[str, str]) -> Pieces:
    """Dispatcher and worker, once the worker is ready."""
    home = folder / "home"
    dispatcher = exits.enter_context(pressroom(home, "dispatcher", **environment))
    worker = exits.enter_context(pressroom(home, "worker", "--device", "cpu", **environment))
    worker.wait_until(lambda: worker.count(READY) == 1, "a worker that is ready")
    return Pieces(
        home=home,
        environment=environment,
        hold=folder / "hold",
        dispatcher=dispatcher,
        worker=worker,
    )


def test_batch_is_submitted_done_and_read_by_commands_of_their_own(pieces: Pieces, tmp_path: Path) -> None:
    briefs, rejected = write_briefs(tmp_path / "briefs.csv", 6), tmp_path / "rejected.jsonl"
    submitted, batch = pieces.command("submit", "articles", briefs, "--rejected", rejected)
    batch_id = batch.strip()
    pieces.worker.wait_until(lambda: pieces.worker.count(OPEN_BATCHES) == 0, "the end of the batch")
    _, status = pieces.command("status", batch_id, "--json")
    exported, _ = pieces.command("results", batch_id, "--out", tmp_path / "out")
    shown, text = pieces.command("show", f"{batch_id}/brief-003")

    assert submitted == exported == shown == 0
    assert str(UUID(batch_id)) == batch_id
    assert json.loads(status)["counts"]["succeeded"] == json.loads(status)["counts"]["total"] == 6
    assert {path.stem for path in (tmp_path / "out" / "articles").glob("*.md")} == {
        f"brief-{index:03}" for index in range(6)
    }
    assert "succeeded" in text
    assert "scripted" in text


def test_servers_named_by_urls_leave_nothing_to_embed(pieces: Pieces) -> None:
    children = [
        process.name()
        for run in (pieces.dispatcher, pieces.worker)
        for process in psutil.Process(run.process.pid).children(recursive=True)
    ]

    assert {path.name for path in pieces.home.iterdir()} == {"logs"}
    assert len(children) == 1  # the worker's own process
    assert children[0].startswith("python")


def test_cancelled_batch_ends_at_once_and_the_workers_go_on(pieces: Pieces, tmp_path: Path) -> None:
    briefs, rejected = write_briefs(tmp_path / "briefs.csv", 6), tmp_path / "rejected.jsonl"
    pieces.hold.touch()
    _, batch = pieces.command("submit", "articles", briefs, "--rejected", rejected)
    pieces.worker.wait_until(lambda: pieces.worker.count(RUNNING) == 4, "claims")
    cancelled, said = pieces.command("cancel", batch.strip())
    _, status = pieces.command("status", batch.strip(), "--json")
    pieces.hold.unlink()

    assert (cancelled, said) == (0, "6 jobs cancelled\n")
    assert json.loads(status)["status"] == "cancelled"
    assert json.loads(status)["counts"]["cancelled"] == 6


@pytest.fixture
def client(pieces: Pieces, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client in this process, configured as the pieces are."""
    for name, value in pieces.environment.items():
        monkeypatch.setenv(f"PRESSROOM_{name.upper()}", value)
    monkeypatch.setenv("PRESSROOM_HOME", str(pieces.home))
    with Client() as opened:
        yield opened


def test_client_submits_follows_and_reads_a_batch(client: Client) -> None:
    items = [
        {"id": "a1", "title": "Night trains", "length": 40},
        {"id": "a2", "title": "Night trains", "length": 7},
        {"id": "a3", "topic": "night buses", "length": 40},
    ]
    refused: list[Rejected] = []
    seen: list[BatchStatusReport] = []
    first = client.submit("article", items, idempotency_key="night", on_rejected=refused.append)
    second = client.submit("article", items, idempotency_key="night")
    report = client.wait(first.batch_id, timeout_seconds=PATIENCE_SECONDS, on_progress=seen.append)
    outputs = list(client.results(first.batch_id))

    assert [(line.line, line.column, line.code) for line in refused] == [(2, "length", "field_invalid")]
    assert (first.created, second.created) == (True, False)
    assert first.batch_id == second.batch_id
    assert report == seen[-1] == client.status(first.batch_id)
    assert report.status is BatchStatus.FINISHED
    assert (report.counts.succeeded, report.counts.total, report.counts.rejected) == (2, 2, 1)
    assert [output.custom_id for output in outputs] == ["a1", "a3"]
    assert b"# Night trains\n" in outputs[0].body
    assert json.loads(outputs[0].statement)["predicate"]["job"]["customId"] == "a1"


def test_client_streams_cancels_retries_and_reads_a_thousand_items(pieces: Pieces, client: Client) -> None:
    items, seen = CountedItems(1_000), list[BatchStatusReport]()
    pieces.hold.touch()
    batch_id = client.submit("article", items).batch_id
    with pytest.raises(WaitTimeoutError, match="0 of 1000 jobs are done"):
        client.wait(batch_id, timeout_seconds=0)
    num_cancelled, cancelled = client.cancel(batch_id), client.wait(batch_id)
    one_again, others_again = client.retry(batch_id, "item-7"), client.retry(batch_id)
    pieces.hold.unlink()
    report = client.wait(batch_id, timeout_seconds=PATIENCE_SECONDS, on_progress=seen.append)
    ids = [output.custom_id for output in client.results(batch_id)]

    assert items.most_held <= MAX_HELD
    assert (num_cancelled, cancelled.status) == (1_000, BatchStatus.CANCELLED)
    assert (one_again, others_again) == (1, 999)
    assert (report.status, report.counts.succeeded) == (BatchStatus.FINISHED, 1_000)
    assert ids == [f"item-{number}" for number in range(1, 1_001)]
    assert len(seen) > 1
    with pytest.raises(InputError, match="has not failed") as nothing:
        client.retry(batch_id, "item-7")
    assert nothing.value.code == "nothing_to_retry"
    with pytest.raises(JobNotFoundError):
        client.retry(batch_id, "item-1001")


def test_client_that_is_strict_gets_nothing_accepted(pieces: Pieces, client: Client) -> None:
    before = pieces.worker.count("SELECT count(*) FROM batches")

    with pytest.raises(StrictIntakeError, match="1 line was refused"):
        client.submit("article", [{"title": "A"}, {"title": ""}], strict=True)
    assert pieces.worker.count("SELECT count(*) FROM batches") == before


def test_items_that_raise_leave_nothing_accepted(pieces: Pieces, client: Client) -> None:
    def broken() -> Iterator[dict[str, object]]:
        yield {"title": "Night trains"}
        raise LookupError("the application's own")

    before = pieces.worker.count("SELECT count(*) FROM batches")
    with pytest.raises(LookupError, match="the application's own"):
        client.submit("article", broken())
    assert pieces.worker.count("SELECT count(*) FROM batches") == before


def test_client_names_what_is_not_there(urls: ServiceUrls, client: Client) -> None:
    unknown = uuid4()
    for call in (
        client.status,
        client.wait,
        client.cancel,
        client.retry,
        lambda id_: next(client.results(id_)),
    ):
        with pytest.raises(BatchNotFoundError, match=str(unknown)):
            call(unknown)
    nowhere = make_url(urls.db_url).set(port=1).render_as_string(hide_password=False)
    with Client(replace(urls, db_url=nowhere)) as cut_off:
        with pytest.raises(DatabaseAwayError, match="Postgres cannot be reached"):
            cut_off.status(unknown)
        with pytest.raises(WaitTimeoutError, match="Postgres did not answer"):
            cut_off.wait(unknown, timeout_seconds=0)


def test_client_describes_the_kinds(client: Client) -> None:
    article = {kind.name: kind for kind in client.kinds()}["article"]

    assert [each.name for each in article.inputs] == ["rows"]
    assert "title" in [column.name for column in article.columns]


def test_pieces_find_long_running_services_through_the_home_and_drain_on_sigterm(
    tmp_path: Path, model_folder: Path
) -> None:
    environment = scripted(tmp_path, model_folder)
    with ExitStack() as exits:
        services = exits.enter_context(pressroom(tmp_path / "home", "services"))
        services.wait_until(lambda: "until Ctrl-C" in services.stderr, "services")
        pieces = start(exits, tmp_path, environment)
        pieces.hold.touch()
        briefs = write_briefs(tmp_path / "briefs.csv", 8)
        code, batch = pieces.command("submit", "articles", briefs, "--rejected", tmp_path / "rejected.jsonl")
        pieces.worker.wait_until(lambda: pieces.worker.count(RUNNING) == 4, "claims")
        pieces.worker.terminate()
        pieces.worker.wait_until(lambda: "Draining" in pieces.worker.stderr, "a drain")
        pieces.hold.unlink()
        drained, _ = pieces.worker.finish_text()
        outcomes = services.query("SELECT outcome, count(*) FROM attempts GROUP BY 1")
        _, status = pieces.command("status", batch.strip(), "--json")
        ended = {"worker": drained}
        for name, run in (("dispatcher", pieces.dispatcher), ("services", services)):
            run.terminate()
            ended[name], _ = run.finish_text()

    counts = json.loads(status)["counts"]
    assert code == 0
    assert ended == {"worker": 0, "dispatcher": 0, "services": 0}
    assert outcomes == [{"outcome": "succeeded", "count": 4}]
    assert (counts["succeeded"], counts["queued"], counts["running"]) == (4, 4, 0)
