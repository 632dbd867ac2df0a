"""What a running job may use: its context, and the services of kinds, opened once per worker process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Engine

from jobs.errors import ConfigurationError, PermanentError, PressroomError
from jobs.job import ClaimedJob
from jobs.kind import Kind, Port, Resources
from jobs.registry import load_kinds, load_target
from storage.store import Store
from workers.inference import JobInference
from workers.resources import StoredResources
from workers.settings import Settings

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
    """Tells how long the job may run, and whether this worker still holds it."""


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
        opened: dict[str, Callable[[RunningJob], Any]] = {}
        self._ports: dict[tuple[str, type[object]], Callable[[RunningJob], Any]] = {}
        for name, kind in kinds.items():
            for port in kind.ports:
                if port.opener not in opened:
                    opened[port.opener] = _open(port, name, services)
                self._ports[name, port.type] = opened[port.opener]

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

    def port(self, port_type: type[PortT], /) -> PortT:
        self._inference.require_held()  # jobs that wait for another's turn notice it here
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
