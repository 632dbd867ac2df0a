"""The Python client: submit batches, follow them, and read their results.

A client uses the services that PRESSROOM_DB_URL, PRESSROOM_REDIS_URL and PRESSROOM_S3_URL name, or those that
`pressroom services` runs on this machine. The dispatcher and the workers run in other processes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypedDict, Unpack
from uuid import UUID

from db import batches, reports
from db.faults import errors_named
from db.session import open_database
from jobs.batch import BatchStatusReport
from jobs.errors import ConfigurationError, InputError, TransientError
from jobs.shown import plural
from pressroom.embedded.services import ServiceUrls, find_running
from workers.settings import Settings, read_settings

if TYPE_CHECKING:
    from jobs.rejection import Rejected
    from pressroom.schemas import KindInfo
    from pressroom.summary import Altered
    from storage.store import Store
    from workers.intake import BatchRequest, Inputs
    from workers.producer import Submission

logger = logging.getLogger(__name__)

MAX_ALTERED_NAMED = 10
"""Maximum number of altered results that an error message names."""


class WaitTimeoutError(TransientError):
    """A batch did not end within the timeout. It continues to run."""

    code = "wait_timed_out"


class BatchOptions(TypedDict, total=False):
    """Options of a batch besides its kind, items, model and settings."""

    seed: int
    """Seed of the sampling: the same seed gives the same texts. Defaults to 0."""
    name: str | None
    """Name shown to people; defaults to the name of the input file."""
    tenant: str
    """Label of the owner. Tenants share the workers evenly."""
    priority: int
    """Batches with a higher priority go first; -100 to 100."""
    idempotency_key: str | None
    """Key that makes submission idempotent: a second call with this key and tenant returns the batch of the
    first."""
    deadline_seconds: float | None
    """Time from now after which unfinished jobs expire."""
    strict: bool
    """Whether a single bad item causes the whole batch to be refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The result of one job that succeeded."""

    custom_id: str
    job_id: UUID
    body: bytes
    """The artifact, checked against the digest that was committed."""
    media_type: str
    metrics: Mapping[str, object]
    statement: bytes
    """Provenance of the result: an in-toto statement in canonical JSON."""


class Client:
    """A connection pool to the services. Use it in a `with` block; any thread may call it.

    Its methods raise DatabaseAwayError (try again later) or DatabaseRefusedError if Postgres cannot be used.
    """

    def __init__(self, urls: ServiceUrls | None = None) -> None:
        """Use the services at `urls`; by default, those that are configured or running on this machine.

        Raises ConfigurationError: `services_not_found` without such services, or `database_url_invalid`.
        """
        self._settings = read_settings()
        self._urls = urls or _running_services(self._settings)
        self._database = open_database(self._urls.db_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._database.dispose()

    @errors_named()
    def submit(
        self,
        kind: str,
        items: Path | str | Iterable[Mapping[str, object]],
        *,
        inputs: Mapping[str, Path | str] | None = None,
        model: str | None = None,
        settings: Mapping[str, object] | None = None,
        on_rejected: Callable[[Rejected], None] | None = None,
        on_note: Callable[[str], None] | None = None,
        on_progress: Callable[[int], None] | None = None,
        **options: Unpack[BatchOptions],
    ) -> Submission:
        """Submit a file, or items in memory, as one batch; no job can be lost once this method returns.

        `items` are the first input of the kind; `inputs` are the files of its other inputs by name. Each item
        is a mapping whose keys are the columns of a file. Items are streamed: a generator of any length needs
        little memory. A refused item is passed to `on_rejected` with its number as the line, and the others
        run. `on_progress` is called repeatedly with the number of items read so far. `model` defaults to the
        kind's default model; `settings` are those of the kind.

        Raises InputError (FileRejectedError, StrictIntakeError, JobsRefusedError), ConfigurationError for an
        unknown kind or model, and any error that the iterator of items raises. After an error, no job was
        accepted.
        """
        from jobs.registry import load_kind
        from workers.intake import BatchRequest, intake_of  # loads intake and tokenizers
        from workers.producer import model_of

        first = intake_of(load_kind(kind)).inputs[0].name
        request = BatchRequest(kind=kind, model=model_of(kind, model), settings=settings or {}, **options)
        named = {first: Path(items) if isinstance(items, str) else items}
        others = {name: Path(path) for name, path in (inputs or {}).items()}
        if first in others:
            raise InputError(
                f"the input {first!r} is given by the argument `items`: remove it from `inputs`",
                code="input_unknown",
            )
        return self.submit_request(
            request,
            named | others,
            on_rejected=on_rejected or _ignore,
            on_note=on_note or _ignore,
            on_progress=on_progress or _ignore,
        )

    @errors_named()
    def submit_request(
        self,
        request: BatchRequest,
        inputs: Inputs,
        *,
        on_rejected: Callable[[Rejected], None],
        on_note: Callable[[str], None],
        on_progress: Callable[[int], None],
    ) -> Submission:
        """Submit inputs, by the names that the kind declares, as one batch; `submit` describes the rest."""
        from workers.producer import submit

        return submit(
            self._database,
            inputs,
            request,
            self._settings,
            on_rejected,
            on_note=on_note,
            on_progress=on_progress,
            s3_url=self._urls.s3_url,
        )

    @errors_named()
    def status(self, batch_id: UUID) -> BatchStatusReport:
        """Return the job counts by state, tokens, times and errors of a batch. Raises BatchNotFoundError."""
        return reports.batch_status(self._database, batch_id)

    def wait(
        self,
        batch_id: UUID,
        *,
        timeout_seconds: float | None = None,
        on_progress: Callable[[BatchStatusReport], None] | None = None,
    ) -> BatchStatusReport:
        """Wait until the batch has ended or cannot continue without help, and return its status.

        It cannot continue if all of its open jobs are parked; `retry` releases them. `on_progress` gets each
        status that differs from the previous one. The method keeps waiting during an outage of Postgres.
        Raises WaitTimeoutError or BatchNotFoundError.
        """
        from pressroom.watch import poll

        begun_at = time.monotonic()
        report: BatchStatusReport | None = None
        for latest in poll(partial(self.status, batch_id)):
            if latest is not None:
                if on_progress is not None and latest != report:
                    on_progress(latest)
                report = latest
                if not report.goes_on:
                    return report
            if timeout_seconds is not None and time.monotonic() - begun_at >= timeout_seconds:
                raise WaitTimeoutError(_unfinished(batch_id, report, timeout_seconds))
        raise AssertionError("unreachable: polling does not end")

    def results(self, batch_id: UUID) -> Iterator[Output]:
        """Stream the results of the jobs that have succeeded so far, in the order of the items.

        Altered results, whose object, rows and statement do not agree, are left out; after all other results,
        an ArtifactAlteredError names them. Raises BatchNotFoundError or StoreError as well.
        """
        from pressroom.results import ArtifactAlteredError, ResultReader

        altered: list[Altered] = []
        self.status(batch_id)
        with errors_named():
            reader = ResultReader(self._database, self._store, altered.append)
            for result in reader.read_batch(batch_id):
                yield Output(
                    custom_id=result.job.custom_id,
                    job_id=result.job.job_id,
                    body=result.bodies[0],
                    media_type=result.evidence.artifacts[0].media_type,
                    metrics=result.job.metrics,
                    statement=result.statement,
                )
        if altered:
            named = "; ".join(map(str, altered[:MAX_ALTERED_NAMED]))
            left_out = plural(len(altered), "result was", "results were")
            raise ArtifactAlteredError(f"batch {batch_id}: {left_out} left out: {named}")

    @errors_named()
    def cancel(self, batch_id: UUID) -> int:
        """End a batch and return how many jobs were cancelled; finished results are kept.

        Raises BatchNotFoundError.
        """
        return batches.cancel(self._database, batch_id)

    @errors_named()
    def retry(self, batch_id: UUID, job: UUID | str | None = None) -> int:
        """Requeue failed, expired and cancelled jobs, release parked ones, and return the total number.

        This applies to the whole batch, or to one `job`, given by the id of the job or of its item. Raises
        BatchNotFoundError, JobNotFoundError, InputError (`nothing_to_retry`) for one job that has not failed,
        and RunUnderWayError if the schedule of the batch has another run that has not ended.
        """
        job_id = None if job is None else self._job_id(batch_id, job)
        num_queued = batches.retry_unfinished(self._database, batch_id, job_id=job_id)
        if job_id is not None and not num_queued:
            raise InputError(
                f"job {job} of batch {batch_id} has not failed and is not parked: see `pressroom show "
                f"{job_id}`",
                code="nothing_to_retry",
            )
        return num_queued

    def kinds(self) -> tuple[KindInfo, ...]:
        """Return the installed kinds by name; one that cannot be loaded is logged and left out."""
        from jobs.registry import load_kinds
        from pressroom.schemas import KindInfo

        return tuple(KindInfo.of(kind) for _, kind in sorted(load_kinds().items()))

    @cached_property
    def _store(self) -> Store:
        from storage import open_store

        return open_store(self._urls.s3_url)

    def _job_id(self, batch_id: UUID, job: UUID | str) -> UUID:
        try:
            job_id = UUID(str(job))
        except ValueError:
            return reports.find_job(self._database, batch_id, str(job))
        if reports.job_detail(self._database, job_id).batch_id != batch_id:
            raise reports.JobNotFoundError(f"batch {batch_id} has no job with the id {job}")
        return job_id


def _ignore(_: object) -> None:
    """Ignore a note, a report of progress, or a refused item (the batch counts it anyway)."""


def _unfinished(batch_id: UUID, report: BatchStatusReport | None, seconds: float) -> str:
    """Return a sentence about the progress of a batch that did not end in time."""
    if report is None:
        return f"batch {batch_id}: Postgres did not answer for {seconds:g} seconds; wait again once it does"
    counts = report.counts
    waiting = f" ({report.waiting_reason})" if report.waiting_reason else ""
    return (
        f"batch {batch_id} has not ended after {seconds:g} seconds: {counts.total - counts.open} of "
        f"{counts.total} jobs are done{waiting}. It continues: wait again, or cancel it"
    )


def _running_services(settings: Settings) -> ServiceUrls:
    urls = find_running(settings)
    if urls is None:
        raise ConfigurationError(
            "no services are configured and none are running on this machine: set PRESSROOM_DB_URL, "
            "PRESSROOM_REDIS_URL and PRESSROOM_S3_URL, or run `pressroom services`",
            code="services_not_found",
        )
    return urls
