"""The Python API for applications that produce jobs: submit, status and results.

It uses the services that PRESSROOM_DB_URL, PRESSROOM_REDIS_URL and PRESSROOM_S3_URL name, or those that
`pressroom services` runs on this machine; workers and dispatcher run elsewhere. Any thread may call the
functions.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from db.reports import batch_status
from db.session import opened_database
from jobs.batch import BatchStatusReport
from jobs.errors import ConfigurationError
from jobs.rejection import Rejected
from pressroom.embedded.services import ServiceUrls, find_running
from pressroom.evidence import ArtifactAlteredError
from pressroom.export import fetch_results
from pressroom.summary import Altered
from storage import open_store
from workers.producer import Order, Submission, model_of, submit_file
from workers.settings import Settings, read_settings

Items = Path | str | Iterable[Mapping[str, object]]
"""A CSV or JSONL file, or its lines as mappings whose keys are the columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The result of one succeeded job."""

    custom_id: str
    job_id: UUID
    body: bytes
    """The artifact, checked against the digest that was committed."""
    media_type: str
    metrics: Mapping[str, object]
    statement: bytes
    """Provenance of the artifact: an in-toto statement in canonical JSON."""


def submit(
    kind: str,
    items: Items,
    *,
    model: str | None = None,
    settings: Mapping[str, object] | None = None,
    seed: int = 0,
    name: str | None = None,
    tenant: str = "default",
    priority: int = 0,
    idempotency_key: str | None = None,
    deadline_seconds: float | None = None,
    strict: bool = False,
    on_rejected: Callable[[Rejected], None] | None = None,
) -> Submission:
    """Submit the items as one batch; once this returns, none of them can be lost.

    Each refused item is passed to `on_rejected` and the others run; with `strict` a refused item means that
    nothing runs. `settings` are those of the kind, such as temperature; without a `model` the kind's default
    is used. Raises InputError (FileRejectedError, StrictIntakeError) if nothing was accepted, and
    ConfigurationError if kind, model or services are missing.
    """
    order = Order(
        kind=kind,
        model=model_of(kind, model),
        settings=settings or {},
        seed=seed,
        name=name,
        tenant=tenant,
        priority=priority,
        idempotency_key=idempotency_key,
        deadline_seconds=deadline_seconds,
        strict=strict,
    )
    configured = read_settings()
    with opened_database(_urls(configured).db_url) as database, _as_file(items) as path:
        return submit_file(database, path, order, configured, on_rejected or _ignore)


def status(batch_id: UUID) -> BatchStatusReport:
    """Return a batch's jobs by state, tokens, times and errors. Raises BatchNotFoundError."""
    with opened_database(_urls(read_settings()).db_url) as database:
        return batch_status(database, batch_id)


def results(batch_id: UUID) -> Iterator[Output]:
    """Stream the results of a batch so far, in input order, without those that were altered.

    Raises BatchNotFoundError or StoreError. After all other results, raises an ArtifactAlteredError that
    names the results left out because object, rows and statement do not agree, if there are any.
    """
    altered: list[Altered] = []
    urls = _urls(read_settings())
    with opened_database(urls.db_url) as database:
        batch_status(database, batch_id)
        for exported in fetch_results(database, open_store(urls.s3_url), batch_id, altered.append):
            result = exported.result
            yield Output(
                custom_id=result.custom_id,
                job_id=result.job_id,
                body=exported.body,
                media_type=result.media_type or "application/octet-stream",
                metrics=result.metrics,
                statement=result.statement or b"",
            )
    if altered:
        raise ArtifactAlteredError(
            f"{len(altered)} results of batch {batch_id} are left out: {'; '.join(map(str, altered[:10]))}"
        )


def _ignore(_rejected: Rejected) -> None:
    """Ignore a refused line; the batch counts it anyway."""


def _urls(settings: Settings) -> ServiceUrls:
    urls = find_running(settings)
    if urls is None:
        raise ConfigurationError(
            "no services are configured and none run on this machine: set PRESSROOM_DB_URL, "
            "PRESSROOM_REDIS_URL and PRESSROOM_S3_URL, or run `pressroom services`",
            code="services_not_found",
        )
    return urls


@contextmanager
def _as_file(items: Items) -> Iterator[Path]:
    """Yield a file with the items; items in memory are written to a temporary JSONL file.

    So there is only one intake, with the same checks and messages for both.
    """
    if isinstance(items, (str, Path)):
        yield Path(items)
        return
    with tempfile.TemporaryDirectory(prefix="pressroom-") as folder:
        path = Path(folder) / "items.jsonl"
        with path.open("w", encoding="utf-8") as lines:
            for item in items:
                lines.write(json.dumps(dict(item), ensure_ascii=True) + "\n")
        yield path
