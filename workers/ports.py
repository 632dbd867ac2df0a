"""Provides running jobs with a context, shared resources, and ports that are opened once per process."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from sqlalchemy import Engine

from db.kept import DatabaseKeptResults
from jobs.errors import ConfigurationError, PermanentError, PressroomError
from jobs.job import ClaimedJob
from jobs.kept import KeptResults
from jobs.kind import Kind, Port, Resources
from jobs.registry import load_kinds, load_target
from storage.resources import put_resource, read_resource
from storage.store import Store
from workers.inference import JobInference
from workers.settings import Settings

ResourceT = TypeVar("ResourceT")

MAX_KEPT_BYTES = 512 * 1024 * 1024
"""Maximum size of the kept resources in stored bytes; the parsed objects take a small multiple of it in
memory."""


_Key = tuple[tuple[str, ...], Callable[..., Any]]


@dataclass(slots=True)
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Lock held while loading, so that a second job waits for the first instead of loading the resource
    again."""
    value: Any = None
    num_bytes: int = 0
    is_loaded: bool = False


class StoredResources:
    """Implements jobs.kind.Resources over the store. Any thread may call it."""

    def __init__(self, store: Store, *, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self._store = store
        self._max_kept_bytes = max_kept_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        """Resources by digests and parser, the least recently used first."""

    def read(self, sha256: str) -> bytes:
        """Return the bytes of a resource without keeping them. Raises ResourceMissingError or StoreError."""
        return read_resource(self._store, sha256)

    def write(self, body: bytes, *, media_type: str) -> str:
        """Store a resource and return its digest. Raises StoreError."""
        return put_resource(self._store, body, media_type=media_type)

    def load(self, sha256: str, parse: Callable[[bytes], ResourceT]) -> ResourceT:
        """Return the parsed resource, and keep it.

        Raises what `read` and `parse` raise; in that case, the resource is not kept.
        """
        return self.load_together((sha256,), parse)

    def load_together(self, sha256s: tuple[str, ...], parse: Callable[..., ResourceT]) -> ResourceT:
        """Parse several resources together; return the result, and keep it. Raises as `load` does."""
        key = (sha256s, parse)
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
        with kept.lock:
            if not kept.is_loaded:
                bodies = [self.read(sha256) for sha256 in sha256s]
                kept.value, kept.num_bytes = parse(*bodies), sum(map(len, bodies))
                kept.is_loaded = True
        self._evict(key)
        return cast("ResourceT", kept.value)

    def _evict(self, in_use: _Key) -> None:
        """Drop the least recently used resources; jobs that hold one can still use it."""
        with self._lock:
            total = sum(kept.num_bytes for kept in self._kept.values())
            for key in list(self._kept):
                if total <= self._max_kept_bytes:
                    return
                if key != in_use:
                    total -= self._kept.pop(key).num_bytes


logger = logging.getLogger(__name__)

PortT = TypeVar("PortT")


class PortUndeclaredError(PermanentError):
    """A job requested a port that its kind does not declare."""

    code = "port_undeclared"


class PortUnavailableError(ConfigurationError):
    """A port could not be opened when this worker started."""

    code = "port_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerServices:
    """The services that a worker process provides to the ports opened in it; any thread may use them."""

    database: Engine
    store: Store
    resources: Resources
    settings: Settings


@dataclass(frozen=True, slots=True)
class RunningJob:
    """The job that requests a port."""

    job: ClaimedJob
    inference: JobInference
    """The job's access to models, with its deadline and the information whether this worker still holds the
    job."""


PortOfJob = Callable[[RunningJob], object]
"""Returns the port for a job: one of its own, or one that all jobs share. Any thread may call it."""

PortOpener = Callable[[WorkerServices], PortOfJob]
"""The function that a `jobs.kind.Port` names. It is called once, when the worker starts, and does not connect
to anything yet."""


class Ports:
    """The ports of a worker process, by kind and type. Any thread may use them."""

    def __init__(self, services: WorkerServices, kinds: Mapping[str, Kind[Any]]) -> None:
        """Open the ports of these kinds.

        A port that cannot be opened is logged, and fails the jobs that request it.
        """
        self.resources = services.resources
        self._kept = {name: DatabaseKeptResults(services.database, name) for name in kinds}
        opened: dict[str, Callable[[RunningJob], Any]] = {}
        self._ports: dict[tuple[str, type[object]], Callable[[RunningJob], Any]] = {}
        for name, kind in kinds.items():
            for port in kind.ports:
                if port.opener not in opened:
                    opened[port.opener] = _open(port, name, services)
                self._ports[name, port.type] = opened[port.opener]

    def kept(self, kind: str) -> KeptResults:
        """Return the results that jobs of this kind have kept."""
        return self._kept[kind]

    def port(self, port_type: type[PortT], running: RunningJob) -> PortT:
        """Return the job's port of this type.

        Raises PortUndeclaredError, PortUnavailableError, and whatever creating a port for one job raises.
        """
        kind = running.job.kind
        port_of_job = self._ports.get((kind, port_type))
        if port_of_job is None:
            raise PortUndeclaredError(
                f"the kind {kind} has no port {port_type.__qualname__}: declare it in the kind's `ports`, "
                "with the function that opens it"
            )
        port: PortT = port_of_job(running)
        return port


def open_ports(database: Engine, store: Store, settings: Settings) -> Ports:
    """Open the ports of all installed kinds, with this process's database and store."""
    services = WorkerServices(
        database=database, store=store, resources=StoredResources(store), settings=settings
    )
    return Ports(services, load_kinds())


def _open(port: Port, kind: str, services: WorkerServices) -> PortOfJob:
    try:
        opener: PortOpener = load_target(port.opener)
        return opener(services)
    except Exception as error:
        logger.warning("A port cannot be opened.", exc_info=True, extra={"kind": kind, "opener": port.opener})
        # An error of another library may contain a secret, such as the URL of a service.
        reason = str(error) if isinstance(error, PressroomError) else type(error).__name__
        return _refusal(
            f"{port.opener} could not open the port {port.type.__qualname__} when the worker started: "
            f"{reason}; see the worker's log, correct the error, and restart the worker"
        )


def _refusal(message: str) -> PortOfJob:
    def refuse(_: RunningJob) -> object:
        raise PortUnavailableError(message)

    return refuse


class JobContext:
    """`jobs.kind.Context` for one job."""

    def __init__(self, job: ClaimedJob, inference: JobInference, ports: Ports) -> None:
        self._job = job
        self._inference = inference
        self._ports = ports

    @property
    def inference(self) -> JobInference:
        return self._inference

    @property
    def resources(self) -> Resources:
        return self._ports.resources

    @property
    def kept(self) -> KeptResults:
        self._inference.require_held()
        return self._ports.kept(self._job.kind)

    def port(self, port_type: type[PortT], /) -> PortT:
        self._inference.require_held()  # a waiting job learns here that it was abandoned
        return self._ports.port(port_type, RunningJob(self._job, self._inference))

    @property
    def seed(self) -> int:
        return self._job.seed

    @property
    def custom_id(self) -> str:
        return self._job.custom_id

    @property
    def settings(self) -> Mapping[str, object]:
        return self._job.settings
