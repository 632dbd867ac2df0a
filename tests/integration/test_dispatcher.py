"""Queued rows become messages: a bounded window, sent again when lost, by one dispatcher at a time."""

from __future__ import annotations

import base64
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from kombu import Connection, Producer
from redis import Redis
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import ProgrammingError

from db.recovery import reap_expired_leases
from db.session import open_database
from pressroom.embedded.server import ServerRunner
from pressroom.embedded.services import ServiceUrls
from pressroom.embedded.valkey import ValkeyServer
from tests.factories import accept, claim, job_ids, job_row, new_batch, set_job, statuses, wait_until
from tests.workers import PROFILE, START_SECONDS, supervised, wait_until_ready
from workers.celery import RUN_ALONE, RUN_SHARD, make_app
from workers.dispatcher import MIN_WINDOW_JOBS, Dispatcher
from workers.reconciler import reconcile
from workers.settings import Settings

SHARD_JOBS = 5


def new_dispatcher(database: Engine, redis_url: str) -> Dispatcher:
    return Dispatcher(database, redis_url, Settings(shard_jobs=SHARD_JOBS))


def messages(redis_url: str) -> list[tuple[str, list[UUID]]]:
    """Task and job ids of what waits in the queue, oldest first."""
    with Redis.from_url(redis_url) as client:
        raw = [json.loads(body) for body in reversed(client.lrange(PROFILE, 0, -1))]
    return [
        (one["headers"]["task"], [UUID(job_id) for job_id in json.loads(base64.b64decode(one["body"]))[0][0]])
        for one in raw
    ]


def sent_ids(redis_url: str) -> list[UUID]:
    return [job_id for _, ids in messages(redis_url) for job_id in ids]


def test_a_message_names_each_queued_job_once(database: Engine, redis_url: str) -> None:
    ids = job_ids(database, accept(database, 50))
    dispatcher = new_dispatcher(database, redis_url)
    dispatcher.tick()
    dispatcher.tick()
    assert sent_ids(redis_url) == ids
    assert {task for task, _ in messages(redis_url)} == {RUN_SHARD}
    assert max(len(shard) for _, shard in messages(redis_url)) == SHARD_JOBS


def test_the_window_is_bounded_and_follows_the_claims(database: Engine, redis_url: str) -> None:
    ids = job_ids(database, accept(database, 3 * MIN_WINDOW_JOBS))
    dispatcher = new_dispatcher(database, redis_url)
    dispatcher.tick()
    dispatcher.tick()
    assert sent_ids(redis_url) == ids[:MIN_WINDOW_JOBS]
    claim(database, ids[:10])
    dispatcher.tick()
    assert sent_ids(redis_url) == ids[: MIN_WINDOW_JOBS + 10]


def test_messages_that_redis_lost_are_sent_again(database: Engine, redis_url: str) -> None:
    ids = job_ids(database, accept(database, 5))
    dispatcher = new_dispatcher(database, redis_url)
    dispatcher.tick()
    with Redis.from_url(redis_url) as client:
        client.flushdb()
    dispatcher.tick()
    assert sent_ids(redis_url) == []  # the queue may be empty for a moment
    set_job(database, ids, sent_at=datetime(2000, 1, 1, tzinfo=UTC))
    dispatcher.tick()
    assert sorted(sent_ids(redis_url)) == sorted(ids)


def test_messages_that_may_still_wait_in_the_queue_are_not_sent_again(
    database: Engine, redis_url: str
) -> None:
    ids = job_ids(database, accept(database, 50))
    dispatcher = new_dispatcher(database, redis_url)
    dispatcher.tick()
    num_messages = len(messages(redis_url))
    set_job(database, ids, sent_at=datetime(2000, 1, 1, tzinfo=UTC))
    dispatcher.tick()
    assert len(messages(redis_url)) == num_messages
    with Redis.from_url(redis_url) as client:  # two messages hold at most ten of the fifty jobs
        client.ltrim(PROFILE, 0, 1)
    dispatcher.tick()
    assert set(sent_ids(redis_url)) == set(ids)


def test_a_suspect_is_sent_to_run_alone(database: Engine, redis_url: str) -> None:
    ids = job_ids(database, accept(database, 2))
    set_job(database, ids[:1], suspect_group=uuid4())
    new_dispatcher(database, redis_url).tick()
    assert messages(redis_url) == [(RUN_SHARD, ids[1:]), (RUN_ALONE, ids[:1])]


def test_a_stage_that_cannot_be_planned_does_not_stop_the_others(database: Engine, redis_url: str) -> None:
    accept(database, 0, new_batch(kind="unplannable", stages=("draft", "polish")))
    accept(database, 0, new_batch(kind="no such kind", stages=("draft", "polish")))
    ids = job_ids(database, accept(database, 1))
    new_dispatcher(database, redis_url).tick()
    assert sent_ids(redis_url) == ids


def plans(database: Engine, act: Callable[[], object]) -> list[str]:
    """How Postgres would execute each statement of the act once more."""
    executed: list[tuple[str, dict[str, object]]] = []

    def record(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        executed.append((statement, parameters))

    event.listen(database, "before_cursor_execute", record)
    act()
    event.remove(database, "before_cursor_execute", record)
    with database.connect() as connection:
        return [
            "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
            for statement, parameters in executed
        ]


def test_no_statement_of_a_round_reads_the_whole_backlog(database: Engine, redis_url: str) -> None:
    ids = job_ids(database, accept(database, 20_000))
    claim(database, ids[:10])
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE jobs"))
    dispatcher = new_dispatcher(database, redis_url)
    dispatcher.tick()

    def round_of_everything() -> None:
        reconcile(database, Settings())
        dispatcher.tick()

    explained = plans(database, round_of_everything)
    assert any("ix_jobs_unsent" in plan for plan in explained)
    assert any("ix_jobs_suspect" in plan for plan in explained)
    assert [plan for plan in explained if "Seq Scan on jobs" in plan] == []


def test_a_step_of_repair_that_fails_does_not_stop_the_sending(database: Engine, redis_url: str) -> None:
    ids = job_ids(database, accept(database, 3))
    with database.begin() as connection:
        connection.execute(text("DROP TABLE attempts"))  # every step that ends attempts fails
    with pytest.raises(ProgrammingError):
        reap_expired_leases(database, max_crashes=3)
    new_dispatcher(database, redis_url).tick()
    assert sent_ids(redis_url) == ids


@contextmanager
def own_valkey(folder: Path) -> Iterator[ServerRunner]:
    """A server that a test may stop."""
    runner = ServerRunner(ValkeyServer(folder / "valkey", "secret"), folder / "valkey.log", port=None)
    runner.spawn()
    runner.wait_until_ready()
    try:
        yield runner
    finally:
        runner.stop()


def test_what_a_broker_that_is_away_did_not_get_waits_and_is_sent_when_it_is_back(
    database: Engine, tmp_path: Path
) -> None:
    with own_valkey(tmp_path) as valkey:
        ids = job_ids(database, accept(database, 3))
        dispatcher = new_dispatcher(database, valkey.url)
        dispatcher.tick()
        assert sent_ids(valkey.url) == ids
        more = job_ids(database, accept(database, 2))
        valkey.stop()
        dispatcher.tick()
        dispatcher.tick()
        assert [job_row(database, job_id).sent_at for job_id in more] == [None, None]
        valkey.restart_if_ended()
        with Redis.from_url(valkey.url) as client:
            client.flushall()
        dispatcher.tick()
        assert sent_ids(valkey.url) == more


@contextmanager
def running_dispatcher(database_url: str, redis_url: str, name: str) -> Iterator[threading.Event]:
    """A dispatcher in a thread, with connections of its own; the event stops it."""
    database = open_database(database_url, application_name=name)
    stopped = threading.Event()
    thread = threading.Thread(target=new_dispatcher(database, redis_url).run, args=(stopped,))
    thread.start()
    try:
        yield stopped
    finally:
        stopped.set()
        thread.join()
        database.dispose()


def leader(database: Engine) -> tuple[str, int] | None:
    """Who holds the dispatchers' lease, and its fence."""
    statement = text("SELECT holder, fence FROM leads WHERE expires_at > clock_timestamp()")
    with database.connect() as connection:
        row = connection.execute(statement).one_or_none()
    return None if row is None else (row[0], row[1])


def test_a_standby_leads_when_the_leader_stops_and_a_leader_outlives_its_session(
    database: Engine, database_url: str, redis_url: str
) -> None:
    stops = {}
    with ExitStack() as exits:
        for name in ("one", "two"):
            stops[name] = exits.enter_context(running_dispatcher(database_url, redis_url, name))
        wait_until(lambda: leader(database) is not None, "one leads")
        first = leader(database)
        with database.begin() as connection:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'one'")
            )
        ids = job_ids(database, accept(database, 3))
        wait_until(lambda: sent_ids(redis_url) == ids, "the leader sends")
        assert leader(database) == first
        stops["one"].set()
        stops["two"].set()
    assert leader(database) is None  # both gave it up


class _Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self._path), "w")


def publish(producer: Producer, body: bytes, content_type: str, task: str = RUN_SHARD) -> None:
    producer.publish(
        body,
        routing_key=PROFILE,
        content_type=content_type,
        content_encoding="binary",
        headers={"task": task, "id": str(uuid4()), "lang": "py", "argsrepr": "", "kwargsrepr": ""},
    )


MALFORMED_BODIES = (
    b"[]",
    b"null",
    b'"x"',
    b"5",
    b"{}",
    b"[[], {}]",
    b"[{}, [], {}]",
    b'[[], {}, {"chain": [1]}]',
)
FRAMES_OF_NO_MESSAGE = (
    b"not json at all",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"__type__": "uuid", "__value__": 5}',
    b"[1, 2]",
    b"null",
    b'{"body": "W10=", "headers": {}}',
)


def broken_frames(redis_url: str) -> list[bytes]:
    """A good message for each field without which kombu or Celery would fail, with that field broken."""
    with make_app(lambda: redis_url) as app:
        app.send_task(RUN_SHARD, ([],), queue="elsewhere")
    with Redis.from_url(redis_url) as client:
        good = client.rpop("elsewhere")
    broken: list[bytes] = []
    for path in ("headers", "headers.task", "headers.id", "body", "content-type", "properties.delivery_tag"):
        frame = json.loads(good)
        *above, name = path.split(".")
        (frame[above[0]] if above else frame)[name] = [1]
        broken.append(json.dumps(frame).encode())
    frame = json.loads(good)
    frame["properties"]["delivery_info"] = {}
    return [*broken, json.dumps(frame).encode(), json.dumps(json.loads(good) | {"body": "W"}).encode()]


@pytest.mark.attack("message for an unknown task or with malformed ids")
def test_what_is_no_message_at_all_is_dropped_and_the_same_worker_goes_on(
    database: Engine, services: ServiceUrls, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    urls = ServiceUrls(db_url=database_url, redis_url=redis_url, s3_url=services.s3_url)
    frames = [*FRAMES_OF_NO_MESSAGE, *broken_frames(redis_url)]
    with supervised(tmp_path, urls) as supervisor, Connection(redis_url) as connection:
        wait_until_ready(database, supervisor)
        pids = supervisor.pids
        with Producer(connection) as producer, Redis.from_url(redis_url) as client:
            for body in MALFORMED_BODIES:
                publish(producer, body, "application/json")
            client.lpush(PROFILE, *frames)
        ids = job_ids(database, accept(database, 8))
        dispatcher = new_dispatcher(database, redis_url)

        def all_done() -> bool:
            dispatcher.tick()
            return set(statuses(database, ids)) == {"succeeded"}

        wait_until(all_done, "the good jobs are done", seconds=START_SECONDS)
        assert supervisor.check() == []
        assert supervisor.pids == pids
        with Redis.from_url(redis_url) as client:
            assert client.hlen("unacked") == 0
    (log_path,) = (tmp_path / "logs").glob("worker-*.log")
    log = log_path.read_text()
    assert log.count("Received invalid task message: refused: ") == len(MALFORMED_BODIES)
    assert log.count("A frame that is not a message was dropped.") == len(frames)


@pytest.mark.attack("replayed message of a finished attempt")
@pytest.mark.attack("message for an unknown task or with malformed ids")
@pytest.mark.attack("pickled or YAML Celery message")
def test_bad_messages_are_refused_replays_run_nothing_and_the_worker_goes_on(
    database: Engine, services: ServiceUrls, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    urls = ServiceUrls(db_url=database_url, redis_url=redis_url, s3_url=services.s3_url)
    trap = tmp_path / "unpickled"
    with supervised(tmp_path, urls) as supervisor, Connection(redis_url) as connection:
        wait_until_ready(database, supervisor)
        pids = supervisor.pids
        with Producer(connection) as producer:
            publish(producer, pickle.dumps(([_Trap(trap)], {}, {})), "application/x-python-serialize")
            publish(producer, b"- [!!python/object/apply:os._exit [1]]\n- {}\n- {}", "application/x-yaml")
            publish(producer, b"[[[]], {}, {}]", "application/json", task="os.system")
            publish(producer, b"{not json", "application/json")
        app = make_app(lambda: redis_url)
        malformed: list[object] = ["not a list", ["not an id"], [None], [[1]], ["1" * 5000], {"a": 1}]
        for given in malformed:
            app.send_task(RUN_SHARD, (given,), queue=PROFILE)
        app.send_task(RUN_SHARD, ([str(uuid4())] * 1001,), queue=PROFILE)
        app.send_task(RUN_SHARD, ([str(uuid4())],), queue=PROFILE)  # of no job
        app.send_task(RUN_SHARD, (), {"surprise": 1}, queue=PROFILE)
        ids = job_ids(database, accept(database, 8))
        dispatcher = new_dispatcher(database, redis_url)

        def all_done() -> bool:
            dispatcher.tick()
            return set(statuses(database, ids)) == {"succeeded"}

        wait_until(all_done, "the good jobs are done", seconds=START_SECONDS)
        replayed = [str(job_id) for job_id in ids]
        for task in (RUN_SHARD, RUN_ALONE):
            app.send_task(task, (replayed,), queue=PROFILE)
        last = job_ids(database, accept(database, 1))
        ids = last
        wait_until(all_done, "a job after the replay is done", seconds=START_SECONDS)
        assert supervisor.check() == []
        assert supervisor.pids == pids
        app.close()
    attempts = {job_row(database, UUID(job_id)).attempt for job_id in replayed}
    assert attempts == {1}
    assert not trap.exists()
    (log_path,) = (tmp_path / "logs").glob("worker-*.log")
    log = log_path.read_text()
    assert log.count("ContentDisallowed") >= 2
    assert "Received unregistered task of type 'os.system'" in log
    assert log.count("it contains something that is not a job id") >= 3
    assert "it must contain a list" in log
