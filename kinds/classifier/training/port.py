"""The training port of a job: a child process with data and checkpoints in the object store."""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db.leases import report_progress
from jobs.errors import ConfigurationError, DeadlineError, PermanentError, TransientError
from jobs.job import ClaimedJob
from kinds.classifier.training import CHECKPOINTS, DATA, RESULT, RESULT_FILES, SPEC
from kinds.classifier.training_spec import TrainedClassifier, TrainingSpec
from storage.resources import read_resource
from storage.store import Store, StoreError, StoreRefusedError
from workers.child_process import last_lines, start_child
from workers.inference import JobAbandonedError, JobInference
from workers.models.manifest import WeightsDigestError, model_folder, verify_model
from workers.ports import RunningJob, WorkerServices

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""Seconds between two checks of whether the job is still held."""
STOP_SECONDS = 10.0
"""Seconds to wait for the child to end before it is killed."""
MEDIA_TYPE = "application/octet-stream"

Event = Mapping[str, object]


class TrainingError(TransientError):
    """The training process ended without a model."""

    code = "training_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlace:
    """The resources of a worker process that its training runs use."""

    database: Engine
    store: Store
    models_folder: Path
    num_threads: int | None
    """CPU threads of a training run; None for torch's default."""


def open_training(services: WorkerServices) -> Callable[[RunningJob], ChildTraining]:
    """Return a function that opens the training port of a job, as `workers.ports.PortOpener` requires.

    Each job has its own port, whose training run is stopped when the job is abandoned.
    """
    place = TrainingPlace(
        database=services.database,
        store=services.store,
        models_folder=services.settings.models_folder,
        num_threads=services.settings.num_threads,
    )
    return lambda running: ChildTraining(running.job, running.inference, place)


class ChildTraining:
    """The training port of one job; it trains one model at a time and blocks the calling thread."""

    def __init__(self, job: ClaimedJob, inference: JobInference, place: TrainingPlace) -> None:
        self._job = job
        self._inference = inference
        self._place = place
        self._store = place.store
        self._prefix = checkpoint_prefix(job.id)

    def train_classifier(self, spec: TrainingSpec) -> TrainedClassifier:
        """Train as `kinds.classifier.training_spec.Training` specifies.

        The checkpoints are kept until `forget_checkpoints` is called.
        """
        base = model_folder(self._place.models_folder, spec.base)
        manifest = verify_model(base)
        if manifest.weights_sha256 != spec.base_weights_sha256:
            raise WeightsDigestError(
                f"{spec.base} has weights {manifest.weights_sha256[:12]} here, but the training run needs "
                f"{spec.base_weights_sha256[:12]}: install the same base on every worker"
            )
        with tempfile.TemporaryDirectory(prefix="pressroom-training-") as folder:
            work = Path(folder)
            self._prepare(work, spec)
            with self._child(work, base) as (child, events):
                self._follow(child, events, work / CHECKPOINTS)
            return _result(work / RESULT)

    def _prepare(self, work: Path, spec: TrainingSpec) -> None:
        (work / SPEC).write_text(spec.model_dump_json(), encoding="utf-8")
        for name in (DATA, CHECKPOINTS):
            (work / name).mkdir()
        for file in spec.files:
            (work / DATA / f"{file.sha256}.csv").write_bytes(read_resource(self._store, file.sha256))
        newest = self._newest_checkpoint()
        if newest is not None:
            (work / CHECKPOINTS / newest.rpartition("/")[2]).write_bytes(self._store.get(newest))
            logger.info("A training run continues from a checkpoint.", extra={"checkpoint": newest})

    def _newest_checkpoint(self) -> str | None:
        """Return the key of the newest checkpoint; None if there is none or listing is not permitted."""
        try:
            return max(self._store.keys(self._prefix), default=None)
        except StoreRefusedError as error:
            logger.warning(
                "A training run starts from the beginning, because checkpoints cannot be listed.",
                extra={"reason": str(error)},
            )
            return None

    @contextmanager
    def _child(
        self, work: Path, base: Path
    ) -> Iterator[tuple[subprocess.Popen[str], queue.SimpleQueue[Event | None]]]:
        arguments = [str(work), str(base)]
        arguments += [str(self._place.num_threads)] if self._place.num_threads else []
        with (work / "stderr.log").open("w") as stderr:
            child = start_child(
                "kinds.classifier.training.child",
                *arguments,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
            )
        events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        if child.stdout is None or child.stdin is None:
            raise TrainingError("the training process has no pipes")
        reader = threading.Thread(target=_read_events, args=(child.stdout, events), daemon=True)
        reader.start()
        try:
            yield child, events
        finally:
            child.stdin.close()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            reader.join(STOP_SECONDS)
            child.stdout.close()

    def _follow(
        self, child: subprocess.Popen[str], events: queue.SimpleQueue[Event | None], checkpoints: Path
    ) -> None:
        """Process the child's events until it reports success.

        Raises the error that ended the child, JobAbandonedError or DeadlineError.
        """
        while True:
            if self._inference.abandoned.is_set():
                raise JobAbandonedError("another worker has taken over the job")
            if time.monotonic() > self._inference.deadline_at:
                raise DeadlineError(
                    "the training run was not finished by its deadline: repeat the command to continue it"
                )
            try:
                event = events.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if event is None:
                raise _ended(child, checkpoints.parent / "stderr.log")
            if event["event"] == "done":
                return
            if event["event"] == "error":
                raise _refused(event)
            if event["event"] == "checkpoint":
                self._keep(checkpoints / str(event["file"]))
            if event["event"] == "progress":
                self._report({name: value for name, value in event.items() if name != "event"})

    def _keep(self, path: Path) -> None:
        """Store a checkpoint, then delete earlier ones; a checkpoint that cannot be stored is skipped."""
        try:
            self._store.put(self._prefix + path.name, path.read_bytes(), media_type=MEDIA_TYPE)
            for key in list(self._store.keys(self._prefix)):
                if key < self._prefix + path.name:
                    self._store.delete(key)
        except StoreError:
            logger.warning("A checkpoint could not be stored.", exc_info=True)
        for earlier in path.parent.glob("*.safetensors"):
            if earlier.name < path.name:
                earlier.unlink()

    def _report(self, progress: Event) -> None:
        try:
            report_progress(self._place.database, self._job.id, self._job.attempt, progress)
        except SQLAlchemyError:
            logger.warning("Postgres is unavailable; the progress of a training run was not recorded.")


def checkpoint_prefix(job_id: UUID) -> str:
    """Return the prefix of the keys of a job's checkpoints."""
    return f"training/{job_id}/"


def forget_checkpoints(store: Store, job_id: UUID) -> None:
    """Delete the checkpoints of a succeeded job, unless the store does not permit their deletion."""
    try:
        for key in list(store.keys(checkpoint_prefix(job_id))):
            store.delete(key)
    except StoreRefusedError as error:
        logger.warning(
            "Checkpoints remain in the store, because they cannot be deleted.", extra={"reason": str(error)}
        )


def _read_events(lines: IO[str], events: queue.SimpleQueue[Event | None]) -> None:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # output of a library
        if isinstance(event, dict) and "event" in event:
            events.put(event)
    events.put(None)


def _refused(event: Event) -> PermanentError | TransientError:
    kind = TransientError if event.get("transient") else PermanentError
    return kind(str(event.get("message")), code=str(event.get("code")))


def _ended(child: subprocess.Popen[str], log: Path) -> Exception:
    code = child.wait()
    output = last_lines(log.read_text(errors="replace"))
    if "No module named" in output:
        return ConfigurationError(
            f"the training process cannot start ({output}): install the extra `pressroom[engine]`",
            code="engine_not_installed",
        )
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return TrainingError(f"the training process {how}: {output}")


def _result(folder: Path) -> TrainedClassifier:
    files = {name: (folder / name).read_bytes() for name in RESULT_FILES}
    evaluation = json.loads(files["evaluation.json"])
    scores = {
        name: {subset: figures["macro_f1"] for subset, figures in subsets.items()}
        for name, subsets in evaluation["test"].items()
    }
    return TrainedClassifier(
        files=files, metrics={"test_macro_f1": scores, "temperature": evaluation["temperature"]}
    )
