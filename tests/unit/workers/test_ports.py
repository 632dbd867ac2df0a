"""What a running job may use: the services of kinds, and inputs that are parsed once per worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Barrier
from typing import ClassVar, Protocol
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine

from jobs.errors import ConfigurationError, PermanentError
from jobs.job import ClaimedJob
from jobs.kind import Port, Resources
from jobs.registry import kind_names, load_kind
from storage.memory import MemoryStore
from storage.resources import ResourceMissingError
from tests.fakes import FakeEngine, fake_models
from tests.plugins.kinds import TrialKind
from workers.inference import JobAbandonedError, JobInference
from workers.ports import JobContext, Ports, RunningJob, StoredResources, WorkerServices, open_ports
from workers.settings import Settings

HERE = "tests.unit.workers.test_ports"


class Counter(Protocol):
    """The type of a port."""

    def count(self) -> int: ...


class JobName(Protocol):
    """The type of another one."""

    @property
    def custom_id(self) -> str: ...


class _Counting:
    def __init__(self) -> None:
        self._number = 0

    def count(self) -> int:
        self._number += 1
        return self._number


OPENED: list[WorkerServices] = []


@pytest.fixture(autouse=True)
def _nothing_opened() -> None:
    OPENED.clear()


def open_counter(services: WorkerServices) -> Callable[[RunningJob], Counter]:
    OPENED.append(services)
    counter = _Counting()
    return lambda _: counter


def open_names(_: WorkerServices) -> Callable[[RunningJob], JobName]:
    return lambda running: running.job


def open_broken(_: WorkerServices) -> Callable[[RunningJob], Counter]:
    raise OSError("connection to postgres://user:secret@somewhere refused")


def open_misconfigured(_: WorkerServices) -> Callable[[RunningJob], Counter]:
    raise ConfigurationError("set COUNTER_URL: it names the counter")


class CountingKind(TrialKind):
    """Has two ports."""

    name: ClassVar[str] = "counting"
    ports: ClassVar[tuple[Port, ...]] = (
        Port(Counter, f"{HERE}:open_counter"),
        Port(JobName, f"{HERE}:open_names"),
    )


class OtherKind(TrialKind):
    """Shares one of them."""

    name: ClassVar[str] = "other"
    ports: ClassVar[tuple[Port, ...]] = (Port(Counter, f"{HERE}:open_counter"),)


@pytest.fixture
def services() -> Iterator[WorkerServices]:
    store = MemoryStore()
    database: Engine = create_engine("sqlite://")
    yield WorkerServices(
        database=database,
        store=store,
        resources=StoredResources(store),
        settings=Settings.model_validate({}),
    )
    database.dispose()


def ports_of(services: WorkerServices, *kinds: TrialKind) -> Ports:
    return Ports(services, {kind.name: kind for kind in kinds})


def kind_with(opener: str) -> TrialKind:
    class Kind(TrialKind):
        name: ClassVar[str] = "counting"
        ports: ClassVar[tuple[Port, ...]] = (Port(Counter, opener),)

    return Kind()


def context_of(ports: Ports, kind: str = "counting", custom_id: str = "line-1") -> JobContext:
    job = ClaimedJob(
        id=UUID(int=1),
        batch_id=UUID(int=2),
        kind=kind,
        stage="write",
        custom_id=custom_id,
        payload={},
        settings={},
        model="",
        seed=0,
        queued_at=datetime(2026, 1, 1, tzinfo=UTC),
        attempt=1,
        num_failures=0,
        max_attempts=3,
        seconds_to_deadline=None,
    )
    inference = JobInference(job, fake_models(FakeEngine()), deadline_at=threading.TIMEOUT_MAX)
    return JobContext(job, inference, ports)


def test_an_opener_is_called_once_for_all_kinds_and_jobs(services: WorkerServices) -> None:
    ports = ports_of(services, CountingKind(), OtherKind())
    counts = [context_of(ports, kind).port(Counter).count() for kind in ("counting", "other", "counting")]
    assert counts == [1, 2, 3]
    assert [services] == OPENED


def test_a_port_may_be_each_jobs_own(services: WorkerServices) -> None:
    ports = ports_of(services, CountingKind())
    names = [context_of(ports, custom_id=name).port(JobName).custom_id for name in ("a", "b")]
    assert names == ["a", "b"]


def test_a_port_that_the_kind_does_not_declare_is_refused_by_kind_and_type(services: WorkerServices) -> None:
    ports = ports_of(services, CountingKind(), OtherKind())
    with pytest.raises(PermanentError, match="kind other has no port JobName") as refused:
        context_of(ports, "other").port(JobName)
    assert refused.value.code == "port_undeclared"


@pytest.mark.parametrize(
    ("opener", "reason"),
    [
        (f"{HERE}:open_broken", "OSError"),
        (f"{HERE}:open_misconfigured", "set COUNTER_URL"),
        (f"{HERE}:open_nothing", "open_nothing"),
        ("nowhere_at_all:open_it", "nowhere_at_all"),
        ("no target", "no target"),
    ],
)
def test_a_port_that_cannot_be_opened_fails_the_jobs_of_its_kind_alone(
    services: WorkerServices, caplog: pytest.LogCaptureFixture, opener: str, reason: str
) -> None:
    with caplog.at_level(logging.WARNING):
        ports = ports_of(services, kind_with(opener), OtherKind())
    assert [(one.message, one.__dict__["kind"]) for one in caplog.records] == [
        ("A port cannot be opened.", "counting")
    ]
    with pytest.raises(ConfigurationError, match=reason) as refused:
        context_of(ports).port(Counter)
    assert refused.value.code == "port_unavailable"
    assert "secret" not in str(refused.value)
    assert context_of(ports, "other").port(Counter).count() == 1


def test_a_job_that_is_no_longer_held_gets_no_port_and_no_kept_results(services: WorkerServices) -> None:
    context = context_of(ports_of(services, CountingKind()))
    context.inference.abandon()
    with pytest.raises(JobAbandonedError):
        context.port(Counter)
    with pytest.raises(JobAbandonedError):
        _ = context.kept


def test_every_port_of_the_installed_kinds_can_be_opened(services: WorkerServices) -> None:
    ports = open_ports(services.database, services.store, services.settings)
    for name in kind_names():
        for port in load_kind(name).ports:
            assert context_of(ports, name).port(port.type) is not None


def test_resources_are_those_of_the_process(services: WorkerServices) -> None:
    resources: Resources = context_of(ports_of(services)).resources
    assert resources.read(resources.write(b"x", media_type="text/plain")) == b"x"


MEDIA_TYPE = "application/octet-stream"


@dataclass(slots=True, eq=False)
class Parse:
    """Counts what it is asked for."""

    num_calls: int = 0

    def __call__(self, *bodies: bytes) -> tuple[bytes, ...]:
        self.num_calls += 1
        return bodies


def test_jobs_that_want_the_same_at_once_have_it_parsed_once() -> None:
    resources, parse, together = StoredResources(MemoryStore()), Parse(), Barrier(8)
    sha256 = resources.write(b"catalogue", media_type=MEDIA_TYPE)

    def load(_: int) -> tuple[bytes, ...]:
        together.wait()
        return resources.load(sha256, parse)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(load, range(8))) == {(b"catalogue",)}
    assert parse.num_calls == 1


def test_what_was_used_longest_ago_is_let_go_of_first() -> None:
    resources, parse = StoredResources(MemoryStore(), max_kept_bytes=25), Parse()
    first, second, third = (resources.write(name * 10, media_type=MEDIA_TYPE) for name in (b"a", b"b", b"c"))
    for sha256 in (first, second, first, third):  # 30 bytes: the second goes
        resources.load(sha256, parse)
    assert parse.num_calls == 3
    resources.load(first, parse)
    assert parse.num_calls == 3
    resources.load(second, parse)
    assert parse.num_calls == 4


def test_several_resources_are_parsed_together_and_kept_as_one() -> None:
    resources, parse = StoredResources(MemoryStore()), Parse()
    both = tuple(resources.write(body, media_type=MEDIA_TYPE) for body in (b"model", b"items"))
    assert (
        resources.load_together(both, parse) == resources.load_together(both, parse) == (b"model", b"items")
    )
    assert parse.num_calls == 1


def test_an_artifact_of_an_earlier_job_is_a_resource_of_a_later_one_and_its_statement_is_not() -> None:
    store = MemoryStore()
    resources = StoredResources(store)
    sha256 = resources.write(b"lists", media_type=MEDIA_TYPE)
    store.delete(f"resources/{sha256[:2]}/{sha256}")
    key = f"artifacts/{sha256[:2]}/{sha256}"
    store.put(f"{key}.{'0' * 64}.statement.json", b"{}", media_type=MEDIA_TYPE)
    with pytest.raises(ResourceMissingError):
        resources.read(sha256)
    store.put(f"{key}.parquet", b"lists", media_type=MEDIA_TYPE)
    assert resources.read(sha256) == b"lists"
