"""The services and facts that a running job may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from jobs.job import ClaimedJob
from jobs.kind import Resources
from workers.inference import JobInference
from workers.ports import Ports, RunningJob

PortT = TypeVar("PortT")


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
