"""Runs a training on this machine: submits it, starts everything, shows progress, and installs the model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from db.batches import accept, retry_unfinished
from db.reports import JobResult, batch_status, running_progress, stream_results
from db.stages import NewJob
from jobs.batch import BatchStatusReport
from jobs.errors import PermanentError
from jobs.job import JobStatus
from kinds.classifier.train_plan import Prepared
from kinds.classifier.training.port import forget_checkpoints
from pressroom.console import Interruption, say
from pressroom.one_machine import OneMachine
from pressroom.output import replace_bytes
from pressroom.results import ResultReader
from pressroom.watch import poll, say_parked
from storage import open_store
from storage.resources import put_resource
from storage.store import Store
from workers.devices import Device
from workers.intake import BatchRequest
from workers.models.adapters import AdapterSource
from workers.models.files import MANIFEST
from workers.models.install import Installation, ModelNameTakenError, add_model
from workers.models.manifest import model_folder, read_manifest
from workers.models.sources import FolderSource
from workers.producer import new_batch
from workers.settings import Settings

KIND = "classifier"
LINE_SECONDS = 10.0
"""Minimum seconds between two lines of progress."""


class TrainingFailedError(PermanentError):
    """The job of the training failed; the message has the job's error."""

    code = "training_failed"


@dataclass(frozen=True, slots=True)
class Trained:
    """Result of a training."""

    installed: Installation
    evaluation: dict[str, Any]
    batch_id: UUID
    job_id: UUID
    seconds: float
    """Duration of the whole command."""


def check_model_name(name: str, models_folder: Path) -> None:
    """Raise ModelNameTakenError if the name is taken, before hours of work are spent."""
    if (models_folder / name / MANIFEST).is_file():
        raise ModelNameTakenError(
            f"a model is installed as {name}: choose another --out, or delete {models_folder / name} first"
        )


def train(prepared: Prepared, settings: Settings, *, keep: Path | None) -> Trained | None:
    """Train a model and install it; return None if Ctrl-C ended the training.

    The same command then continues from the last checkpoint. `keep` is a folder for adapter, recipe,
    evaluation and model card. Raises TrainingFailedError.
    """
    begun_at = time.monotonic()
    batch = new_batch(_request(prepared), settings, name=f"train {prepared.order.model}")
    machine = OneMachine(settings, (Device("cpu"),), profiles=batch.profiles, say=say)
    with Interruption(counting=False) as interruption, machine:
        store = open_store(machine.urls.s3_url)
        for body in prepared.bodies.values():
            put_resource(store, body, media_type="text/csv")
        payload = prepared.order.model_dump(mode="json")
        batch_id, created = accept(
            machine.database, batch, [NewJob(prepared.order.model, payload)], lambda: 0
        )
        if not created:
            say("This training was begun before: going on with it.")
            retry_unfinished(machine.database, batch_id)
        with interruption.counted():
            _watch(machine, batch_id, interruption)
            if interruption.count:
                say("Stopping; the same command goes on from the last checkpoint.")
                machine.drain()
        job = next(stream_results(machine.database, batch_id))
        if job.status in (JobStatus.QUEUED, JobStatus.RUNNING):
            return None
        installed, evaluation = _install(machine, store, job, settings, keep)
    return Trained(installed, evaluation, batch_id, job.job_id, time.monotonic() - begun_at)


def _request(prepared: Prepared) -> BatchRequest:
    return BatchRequest(
        kind=KIND,
        model="",
        settings={},
        seed=prepared.order.seed,
        idempotency_key=prepared.idempotency_key,
    )


def _watch(machine: OneMachine, batch_id: UUID, interruption: Interruption) -> None:
    """Print the progress until the batch is final or the user interrupts."""
    last_sentence, printed_at = "", 0.0
    for state in poll(partial(_state, machine.database, batch_id), say=say):
        if state is not None:
            report, progress = state
            if not report.goes_on:
                say_parked(report)
                return
            sentence = _sentence(progress[0]) if progress else "reading and splitting the data"
            if sentence != last_sentence and time.monotonic() - printed_at >= LINE_SECONDS:
                last_sentence, printed_at = sentence, time.monotonic()
                say(sentence)
        if interruption.count:
            return
        machine.check()


def _state(database: Engine, batch_id: UUID) -> tuple[BatchStatusReport, list[Mapping[str, object]]]:
    return batch_status(database, batch_id), running_progress(database, batch_id)


def _sentence(progress: Any) -> str:
    looked = progress.get("dev_macro_f1")
    found = (
        "" if looked is None else f", dev macro-F1 {looked:.3f} (best {progress['best_dev_macro_f1']:.3f})"
    )
    return f"step {progress.get('step')} of at most {progress.get('num_steps')}{found}"


def _install(
    machine: OneMachine, store: Store, job: JobResult, settings: Settings, keep: Path | None
) -> tuple[Installation, dict[str, Any]]:
    if job.status is not JobStatus.SUCCEEDED:
        raise TrainingFailedError(
            f"the training {job.status.value}: {job.error_message or 'no message'} ({job.error_code}); the "
            "same command tries it again"
        )
    order = job.payload
    with _files(machine, store, job, keep) as folder:
        base = model_folder(settings.models_folder, str(order["base"]))
        licence = read_manifest(base).licence
        source = AdapterSource(str(order["model"]), folder, FolderSource(base, licence=licence))
        installed = add_model(source.name, settings.models_folder, source, progress=say)
        evaluation = json.loads((folder / "evaluation.json").read_bytes())
    forget_checkpoints(store, job.job_id)
    return installed, evaluation


@contextmanager
def _files(machine: OneMachine, store: Store, job: JobResult, keep: Path | None) -> Iterator[Path]:
    """Yield a folder with the job's artifacts as files: `keep`, or a temporary one."""
    with TemporaryDirectory(prefix="pressroom-adapter-") as temporary:
        folder = keep or Path(temporary)
        for result in ResultReader(machine.database, store).read(iter([job])):
            for artifact, body in zip(result.evidence.artifacts, result.bodies, strict=True):
                replace_bytes(folder / artifact.name, body)
        yield folder
