"""Connects the database, store, models and runner of a worker process, and shuts them down again.

Celery's signals call these functions; its tasks reach the runner through `runner()`.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import platform
import socket
import sys
import threading
import time
from dataclasses import dataclass

from sqlalchemy import Engine as Database
from sqlalchemy.exc import SQLAlchemyError

from db import workers as worker_rows
from db.faults import errors_named, fault_of
from db.session import open_database
from jobs.errors import ConfigurationError, PermanentError, PressroomError, TransientError
from jobs.provenance import payload_digest
from jobs.registry import warm_kinds
from storage import open_store
from storage.store import check_access
from workers import logs
from workers.attempt import JobServices, WorkerIdentity
from workers.broker import consumer_outage
from workers.child_process import drain_when_parent_dies
from workers.devices import Device
from workers.engine import EngineOptions
from workers.heartbeat import Pulse, report_failure
from workers.model_pool import ModelPool, load_models
from workers.models.files import ModelUnloadableError
from workers.outage import Outage
from workers.ports import open_ports
from workers.preflight import check_broker
from workers.publisher import Publisher, code_facts
from workers.runner import Runner
from workers.settings import Settings, read_settings
from workers.thinking import Thinking

logger = logging.getLogger(__name__)

JOBS_PER_SLOT = 1.5
"""Jobs held per engine slot, so that new prompts are waiting while finished jobs are post-processed and
uploaded."""

PLACES_WITHOUT_SLOTS = 4
"""Minimum jobs in flight for a profile without encoders. It applies if no model generates text, or if the
models have at most two slots."""

PLACES_OF_ENCODERS = 16
"""Minimum jobs in flight for a profile with an encoder. Each job is a block of hundreds of texts: while eight
jobs are computed, the next ones are prepared and the previous ones are stored."""

DATABASE_CONNECTIONS = 8
"""Size of the connection pool. Claim, commit and heartbeat use one each; a kind uses one only while it reads
history."""

SEEN_SECONDS = 10.0
"""Interval between two updates of the worker's `seen_at` in the workers table."""

EXIT_NOT_STARTED = 78
"""Exit code after a permanent start failure, EX_CONFIG of sysexits.h: another start would fail again."""

EXIT_START_FAILED = 1
"""Exit code after a start failure that may pass, such as an unavailable Postgres or store. The supervisor
starts the worker again after a while."""

EXIT_STALLED = 71
"""Exit code when a job has not returned long after its deadline."""

EXIT_CUT_OFF = 75
"""Exit code, EX_TEMPFAIL of sysexits.h, when nothing was consumed although messages were waiting, or when
nothing could be committed. No job is to blame."""


MAX_REASON_CHARACTERS = 500
"""Maximum length of a library's error message in the worker's own error."""


@dataclass(slots=True)
class _Process:
    settings: Settings
    worker_id: str
    database: Database
    models: ModelPool
    runner: Runner
    stopped: threading.Event
    pulse: Pulse


_process: _Process | None = None


def runner() -> Runner:
    """Return the runner of this process. Raises RuntimeError before `start` has returned."""
    if _process is None:
        raise RuntimeError("the worker process has not been started")
    return _process.runner


def set_up_logging() -> None:
    """Write log lines to stderr, which the supervisor redirects to the worker's log file."""
    level = read_settings().log_level
    logs.set_up_logging(level, others=level, form="%(asctime)s %(levelname)s %(name)s: ")


def start() -> None:
    """Connect, then load and warm up the models of the profile; end the process if that is impossible."""
    global _process
    settings: Settings | None = None
    try:
        settings = read_settings()
        if settings.supervisor_pid is not None:
            drain_when_parent_dies(settings.supervisor_pid)
        _process = _start(settings)
    except PressroomError as error:
        logger.critical("The worker cannot start: %s (%s)", error, error.code)
        if settings is not None:
            report_failure(settings.start_report, error)
        # Celery would log an exception raised in a signal handler and continue without models.
        os._exit(EXIT_START_FAILED if isinstance(error, TransientError) else EXIT_NOT_STARTED)
    except Exception:
        logger.critical("The worker cannot start.", exc_info=True)
        os._exit(EXIT_START_FAILED)


def _start(settings: Settings) -> _Process:
    pulse = Pulse(settings.heartbeat_descriptor)
    worker_id = settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"
    database = open_database(
        settings.require_db_url(), pool_size=DATABASE_CONNECTIONS, application_name=worker_id
    )
    with errors_named():
        worker_rows.register(
            database,
            worker_id,
            profile=settings.worker_profile,
            device=settings.worker_device,
            host=platform.node(),
            pid=os.getpid(),
        )
    check_broker(settings.require_redis_url())
    store = open_store(settings.require_s3_url())
    check_access(store)
    models = _load_models(settings)
    ports = open_ports(database, store, settings)
    warm_kinds()
    num_places = settings.max_jobs_in_flight or _places(models)
    for model in models.all():
        manifest = model.manifest.model_dump(mode="json")
        worker_rows.record_model(database, payload_digest(manifest), model.manifest.name, manifest)
    return _Process(
        settings=settings,
        worker_id=worker_id,
        database=database,
        models=models,
        runner=Runner(
            database=database,
            services=JobServices(
                models=models,
                ports=ports,
                publisher=Publisher(store, code_facts(settings)),
                worker=WorkerIdentity(worker_id, settings.worker_device),
                settings=settings,
            ),
            num_places=num_places,
            on_broken=lambda: _end(EXIT_STALLED),
            on_cut_off=lambda: _end(EXIT_CUT_OFF),
        ),
        stopped=threading.Event(),
        pulse=pulse,
    )


def _load_models(settings: Settings) -> ModelPool:
    """Return the profile's models, loaded and warmed up.

    Raises ConfigurationError or PermanentError, because a model that cannot be loaded now cannot be loaded
    later either.
    """
    models = settings.profile(settings.worker_profile).models
    options = _engine_options(settings)
    try:
        return load_models(settings.models_folder, models, engine=settings.engine, options=options)
    except (ConfigurationError, PermanentError):
        raise
    except Exception as error:
        logger.critical("The models cannot be loaded.", exc_info=True)
        reason = next(iter(str(error).splitlines()), "")[:MAX_REASON_CHARACTERS]
        raise ModelUnloadableError(
            f"the models {', '.join(models)} cannot be loaded with the engine {settings.engine}: "
            f"{type(error).__name__}: {reason}; run `pressroom models verify`, and check the memory and the "
            "log"
        ) from error


def _engine_options(settings: Settings) -> EngineOptions:
    return EngineOptions(
        device=Device(settings.worker_device).torch_name,
        num_slots=settings.num_slots,
        max_context_tokens=settings.max_context_tokens,
        num_threads=settings.num_threads,
        step_timeout_seconds=settings.step_timeout_seconds,
        thinking=Thinking(is_requested=settings.thinking, max_tokens=settings.max_thought_tokens),
    )


def _places(models: ModelPool) -> int:
    least = PLACES_OF_ENCODERS if models.has_encoders else PLACES_WITHOUT_SLOTS
    return max(int(models.num_slots * JOBS_PER_SLOT), least)


def _end(exit_code: int) -> None:
    """End the process, because a thread cannot be killed; its jobs are requeued when their leases expire."""
    logger.critical("The worker cannot continue; it exits and will be restarted.")
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(exit_code)


def ready() -> None:
    """Mark the worker as ready: it consumes messages from now on."""
    if _process is None:
        return
    gc.collect()
    gc.freeze()  # no later collection scans the half a million objects of libraries and models
    worker_rows.mark_ready(
        _process.database, _process.worker_id, max_jobs_in_flight=_process.runner.num_places
    )
    threading.Thread(target=_watch, args=(_process,), name="watchdog", daemon=True).start()
    _process.pulse.ready()
    logger.info("The worker is ready.", extra={"worker_id": _process.worker_id})


def _watch(process: _Process) -> None:
    """Report that the worker is alive; end it if it consumes nothing while messages are waiting.

    After a reset of the broker, a Celery worker can look alive and consume nothing (celery#8030, #10205).
    """
    stalled_after = 2 * process.settings.resend_seconds
    # Measured here, because the dispatcher resends unclaimed messages, so no message ever gets this old.
    starved_since = time.monotonic()
    postgres = Outage(logger, "Postgres", meanwhile="the worker waits for it")
    while not process.stopped.wait(SEEN_SECONDS):
        try:
            worker_rows.mark_seen(process.database, process.worker_id)
            waiting = worker_rows.messages_wait(process.database, process.settings.worker_profile)
        except SQLAlchemyError as error:
            postgres.note(error, fault_of(error))
            continue
        postgres.end()
        if process.runner.num_in_flight or not waiting or consumer_outage.is_on:
            starved_since = time.monotonic()
        elif time.monotonic() - max(starved_since, process.runner.last_claim_at) > stalled_after:
            logger.critical(
                "Messages are waiting and none is being consumed; the worker exits and will be restarted."
            )
            os._exit(EXIT_CUT_OFF)


def drain() -> None:
    """Stop claiming jobs; the jobs in flight continue."""
    if _process is not None:
        _process.pulse.draining()
        _process.runner.drain()


def stop() -> None:
    """Finish or give back the jobs in flight, then close everything."""
    if _process is None:
        return
    _process.runner.close(_process.settings.drain_seconds)
    _process.stopped.set()
    _process.models.close()
    try:
        worker_rows.mark_stopped(_process.database, _process.worker_id)
    except SQLAlchemyError:
        logger.warning("Postgres is unavailable, so the end of this worker was not recorded.")
    _process.database.dispose()
