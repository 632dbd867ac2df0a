"""`pressroom train classifier`: reads a plan and its files, trains the model here, and installs it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import Engine

from db.batches import accept, retry_unfinished
from db.reports import JobResult, batch_status, running_progress, stream_results
from db.stages import NewJob
from jobs.batch import BatchStatusReport
from jobs.errors import ConfigurationError, InputError, PermanentError
from jobs.intake.files import TOML_ERRORS, check_input, open_input, read_toml
from jobs.job import JobStatus
from jobs.rejection import FileRejectedError
from jobs.validation import describe_first
from kinds.classifier.training.data import LabelledData, num_needed, read_labelled, split_examples
from kinds.classifier.training.port import forget_checkpoints
from kinds.classifier.training_spec import LabelledFile, Plan, TrainingSpec
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
from workers.models.manifest import check_name, model_folder, read_manifest
from workers.models.sources import FolderSource
from workers.producer import new_batch
from workers.settings import Settings

KIND = "classifier"

PLAN_SUFFIX = ".toml"

LINE_SECONDS = 10.0
"""Minimum seconds between two lines of progress."""

MANY = 4
"""With at least this many times the required number of texts, only the training run looks for
near-duplicates. With the default shares, that is 1,200 texts; searching fewer texts takes at most a third
of a second.
"""


class TrainingDataMissingError(ConfigurationError):
    """A file that a plan names was not found."""

    code = "training_data_missing"


@dataclass(frozen=True, slots=True)
class PreparedTraining:
    """A training specification with its files, all of whose lines have been read and checked."""

    spec: TrainingSpec
    bodies: Mapping[str, bytes]
    """Content of the files by SHA-256."""
    data: tuple[LabelledData, ...]

    @property
    def idempotency_key(self) -> str:
        """Return the idempotency key of the batch, by which the same command continues the same training
        run."""
        return f"train-{hashlib.sha256(self.spec.model_dump_json().encode()).hexdigest()[:32]}"


def read_plan(path: Path) -> Plan:
    """Read a training plan from a TOML file. Raises an InputError that names the invalid field."""
    try:
        return Plan.model_validate(read_toml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {describe_first(error)}", code="training_plan_invalid") from error
    except TOML_ERRORS as error:
        raise InputError(f"{path} is not valid TOML: {error}", code="training_plan_invalid") from error


def prepare(plan: Plan, folder: Path, models_folder: Path) -> PreparedTraining:
    """Find and read the plan's files in the folder, before anything is started.

    A file name in the plan can contain folders; if no such file exists, the last part of the name is tried.
    Raises InputError or ConfigurationError.
    """
    check_name(plan.model)
    base = read_manifest(model_folder(models_folder, plan.base))
    bodies, data = {}, []
    for number, file in enumerate(plan.files):
        with open_input(_find(file, folder)) as opened:
            body = opened.read()
        data.append(read_labelled(body, file, number))
        bodies[file.sha256] = body
    spec = TrainingSpec(**dict(plan), base_weights_sha256=base.weights_sha256)
    return PreparedTraining(spec, bodies, tuple(data))


def check_size(prepared: PreparedTraining) -> None:
    """Raise SplitError before workers are started if there are too few texts to hold some out.

    If there are many texts, only the training run checks this: they can be too few only if most of them are
    near-duplicates, and finding those takes 0.3 ms per text.
    """
    shares = {"dev_share": prepared.spec.recipe.dev_share, "test_share": prepared.spec.recipe.test_share}
    examples = [example for data in prepared.data for example in data.examples]
    if len(examples) < MANY * num_needed(**shares):
        split_examples(examples, seed=prepared.spec.seed, **shares)


def _find(file: LabelledFile, folder: Path) -> Path:
    for path in (folder / file.name, folder / Path(file.name).name):
        with suppress(FileRejectedError):
            check_input(path)
            return path
    origin = f" from {file.source}" if file.source else ""
    raise TrainingDataMissingError(
        f"{file.name} is not in {folder}: get it{origin} and name its folder with --data"
    )


class TrainingFailedError(PermanentError):
    """The training job failed; the message contains the job's error."""

    code = "training_failed"


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The model that a training run installed, and its evaluation."""

    installed: Installation
    evaluation: dict[str, Any]
    batch_id: UUID
    job_id: UUID
    seconds: float
    """Duration of the whole command in seconds."""


def check_model_name(name: str, models_folder: Path) -> None:
    """Raise ModelNameTakenError if the name is taken, before hours of work are spent."""
    if (models_folder / name / MANIFEST).is_file():
        raise ModelNameTakenError(
            f"a model named {name} is already installed: choose another name with --out, or delete "
            f"{models_folder / name} first"
        )


def train(prepared: PreparedTraining, settings: Settings, *, keep: Path | None) -> TrainingResult | None:
    """Train a model and install it; return None if Ctrl-C ended the training run.

    The same command then continues from the last checkpoint. `keep` is a folder for adapter, recipe,
    evaluation and model card. Raises TrainingFailedError.
    """
    begun_at = time.monotonic()
    request = BatchRequest(
        kind=KIND,
        model="",
        settings={},
        seed=prepared.spec.seed,
        idempotency_key=prepared.idempotency_key,
    )
    batch = new_batch(request, settings, name=f"train {prepared.spec.model}")
    machine = OneMachine(settings, (Device("cpu"),), profiles=batch.profiles, say=say)
    with Interruption(counting=False) as interruption, machine:
        store = open_store(machine.urls.s3_url)
        for body in prepared.bodies.values():
            put_resource(store, body, media_type="text/csv")
        payload = prepared.spec.model_dump(mode="json")
        batch_id, created = accept(machine.database, batch, [NewJob(prepared.spec.model, payload)], lambda: 0)
        if not created:
            say("Continuing a training run that was started earlier.")
            retry_unfinished(machine.database, batch_id)
        with interruption.counted():
            _watch(machine, batch_id, interruption)
            if interruption.count:
                say("Stopping. Repeat the command to continue from the last checkpoint.")
                machine.drain()
        job = next(stream_results(machine.database, batch_id))
        if job.status in (JobStatus.QUEUED, JobStatus.RUNNING):
            return None
        installed, evaluation = _install(machine, store, job, settings, keep)
    return TrainingResult(installed, evaluation, batch_id, job.job_id, time.monotonic() - begun_at)


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
    score = progress.get("dev_macro_f1")
    scores = "" if score is None else f", dev macro-F1 {score:.3f} (best {progress['best_dev_macro_f1']:.3f})"
    return f"step {progress.get('step')} of at most {progress.get('num_steps')}{scores}"


def _install(
    machine: OneMachine, store: Store, job: JobResult, settings: Settings, keep: Path | None
) -> tuple[Installation, dict[str, Any]]:
    if job.status is not JobStatus.SUCCEEDED:
        cause = f": {job.error_message} ({job.error_code})" if job.error_message else ""
        raise TrainingFailedError(
            f"the training job has the status {job.status.value}{cause}; repeat the command to retry it"
        )
    with _files(machine, store, job, keep) as folder:
        base = model_folder(settings.models_folder, str(job.payload["base"]))
        licence = read_manifest(base).licence
        source = AdapterSource(str(job.payload["model"]), folder, FolderSource(base, licence=licence))
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
