"""Training a classifier: a real child process, checkpoints in the store, a real runner, a merged model."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import Engine
from transformers import AutoModelForSequenceClassification

from db import recovery
from db.evidence import job_evidence
from db.reports import job_detail, running_progress
from db.stages import NewJob
from jobs.errors import InputError, PermanentError
from jobs.job import JobStatus
from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.training.fit import CheckpointError, Progress, read_newest, write_checkpoint
from kinds.classifier.training.port import (
    ChildTraining,
    TrainingError,
    checkpoint_prefix,
    forget_checkpoints,
    open_training,
)
from kinds.classifier.training_spec import LabelledFile, Recipe, TrainedClassifier, TrainingSpec
from storage.memory import MemoryStore
from storage.resources import put_resource
from storage.store import Store
from tests.factories import (
    accept,
    artifact_place,
    claim,
    job_ids,
    job_row,
    new_batch,
    read_place,
    run_out_leases,
)
from tests.fakes import FakeEngine, fake_models, load_nothing
from tests.integration.test_runner import run_to_the_end, running
from tests.tiny_bert import labelled_csv, write_tiny_bert
from workers.inference import JobAbandonedError, JobInference
from workers.models.adapters import AdapterSource
from workers.models.classifier import LabelsUnknownError, parse_labels, read_classifier_settings
from workers.models.install import add_model
from workers.models.manifest import WeightsDigestError, verify_model
from workers.models.sources import FolderSource
from workers.ports import RunningJob, StoredResources, WorkerServices
from workers.settings import Settings

ADAPTER = "adapter_model.safetensors"
CHILD = "kinds.classifier.training.child"
DATA = labelled_csv()
RECIPE = Recipe(rank=8, learning_rate=0.02, epochs=4, members=2, checkpoint_steps=10, patience=50, bf16=False)


class CountingStore(MemoryStore):
    """Counts checkpoints; kills the training process when the given one comes. Implements Store."""

    def __init__(self, kill_at: int | None = None) -> None:
        super().__init__()
        self.steps: list[str] = []
        self._kill_at = kill_at

    def put(self, key: str, body: bytes, *, media_type: str) -> None:
        super().put(key, body, media_type=media_type)
        if key.startswith("training/"):
            self.steps.append(key.rpartition("/")[2])
            if len(self.steps) == self._kill_at:
                for child in training_processes():
                    child.kill()


def training_processes() -> list[psutil.Process]:
    """Those that this process has started and that have not ended."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if each.status() != psutil.STATUS_ZOMBIE and CHILD in each.cmdline()]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a tiny encoder."""
    folder = tmp_path_factory.mktemp("tiny")
    source = FolderSource(write_tiny_bert(folder / "source"), licence="MIT")
    add_model("tiny", folder / "models", source, trial=load_nothing)
    return folder / "models"


def spec_for(models: Path, data: bytes = DATA) -> TrainingSpec:
    file = LabelledFile(
        name="a.csv", sha256=hashlib.sha256(data).hexdigest(), text="title", label="mood", target="company"
    )
    weights = verify_model(models / "tiny").weights_sha256
    return TrainingSpec(
        model="mine", base="tiny", base_weights_sha256=weights, files=(file,), recipe=RECIPE, seed=7
    )


def queue(database: Engine, spec: TrainingSpec) -> UUID:
    batch = new_batch(kind="classifier", stages=("train",), model="")
    (job,) = job_ids(database, accept(database, [NewJob("mine", spec.model_dump(mode="json"))], batch))
    return job


def port_for(
    database: Engine, job_id: UUID, store: Store, models: Path
) -> tuple[ChildTraining, JobInference]:
    """The port as a worker makes it that claims the job now."""
    (job,) = claim(database, [job_id])
    inference = JobInference(job, fake_models(FakeEngine()), deadline_at=time.monotonic() + 300)
    services = WorkerServices(
        database=database,
        store=store,
        resources=StoredResources(store),
        settings=Settings.model_validate({"models_dir": models, "num_threads": 1}),
    )
    return open_training(services)(RunningJob(job, inference)), inference


def train(
    database: Engine, job_id: UUID, store: Store, models: Path, data: bytes = DATA
) -> TrainedClassifier:
    put_resource(store, data, media_type="text/csv")
    port, _ = port_for(database, job_id, store, models)
    return port.train_classifier(spec_for(models, data))


@pytest.mark.parametrize("kill_at", [2, 6, 8], ids=["first member", "between two", "second member"])
def test_a_killed_training_goes_on_elsewhere_and_makes_the_same_model(
    database: Engine, models: Path, kill_at: int
) -> None:
    undisturbed = CountingStore()
    whole = train(database, queue(database, spec_for(models)), undisturbed, models)

    store = CountingStore(kill_at)
    job_id = queue(database, spec_for(models))
    with pytest.raises(TrainingError, match="was killed by signal 9"):
        train(database, job_id, store, models)
    run_out_leases(database, [job_id])
    second_worker = train_again(database, job_id, store, models)

    assert second_worker.files[ADAPTER] == whole.files[ADAPTER]
    assert second_worker.files["evaluation.json"] == whole.files["evaluation.json"]
    assert store.steps == undisturbed.steps  # none was made twice
    assert list(store.keys(checkpoint_prefix(job_id))) == [checkpoint_prefix(job_id) + undisturbed.steps[-1]]
    forget_checkpoints(store, job_id)
    assert not list(store.keys("training/"))


def train_again(database: Engine, job_id: UUID, store: Store, models: Path) -> TrainedClassifier:
    recovery.reap_expired_leases(database, max_crashes=3)
    return train(database, job_id, store, models)


def test_the_kind_trains_in_a_worker_and_its_model_can_be_installed(
    database: Engine, store: Store, models: Path, tmp_path: Path
) -> None:
    put_resource(store, DATA, media_type="text/csv")
    job_id = queue(database, spec_for(models))
    config = Settings.model_validate(
        {"models_dir": models, "commit_interval_seconds": 0.01, "num_threads": 1}
    )
    with running(database, store=store, config=config) as runner:
        run_to_the_end(runner, database, [job_id])
    detail = job_detail(database, job_id)
    assert detail.result.status is JobStatus.SUCCEEDED, detail.result.error_message
    assert detail.result.artifact_name == "MODEL_CARD.md"
    assert detail.result.metrics["test_macro_f1"]
    progress = job_row(database, job_id).progress
    assert progress is not None
    assert progress["step"] == progress["num_steps"]
    assert running_progress(database, detail.batch_id) == []

    for number, artifact in enumerate(job_evidence(database, [job_id])[job_id].artifacts):
        body = read_place(store, artifact_place(database, job_id, number))
        (tmp_path / artifact.name).write_bytes(body)
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert progress["best_dev_macro_f1"] == max(each["dev_macro_f1"] for each in evaluation["history"])
    assert len(evaluation["members"]) == RECIPE.members
    figures = evaluation["test"]["a.csv"]["all"]
    assert figures["macro_f1"] > 0.5  # three classes by chance: a third
    assert sum(map(sum, figures["confusion"])) == evaluation["split"]["num_test"]
    source = AdapterSource("mine", tmp_path, FolderSource(models / "tiny", licence="MIT"))
    installed = add_model("mine", models, source)
    assert (installed.manifest.task, installed.manifest.licence) == ("classify", "MIT")
    assert read_classifier_settings(installed.folder).input == "text_and_target"
    assert_merged(models / "tiny", tmp_path, installed.folder)


def assert_merged(base: Path, adapter: Path, merged: Path) -> None:
    """W + B A for a layer, by hand, and a model that transformers loads without any code of ours."""
    name = "encoder.layer.0.attention.self.query"
    parts = load_file(adapter / ADAPTER)
    low, high = (parts[f"base_model.model.bert.{name}.lora_{each}.weight"].float() for each in "AB")
    expected = load_file(base / "model.safetensors")[f"{name}.weight"] + high @ low
    model = AutoModelForSequenceClassification.from_pretrained(merged)
    torch.testing.assert_close(model.state_dict()[f"bert.{name}.weight"], expected)
    assert model.config.id2label == dict(enumerate(LABELS))


def test_an_abandoned_job_ends_its_training_process(database: Engine, models: Path) -> None:
    store = CountingStore()
    put_resource(store, DATA, media_type="text/csv")
    port, inference = port_for(database, queue(database, spec_for(models)), store, models)
    timer = threading.Timer(1.0, inference.abandon)
    timer.start()
    with pytest.raises(JobAbandonedError):
        port.train_classifier(spec_for(models))
    assert training_processes() == []


def test_data_that_cannot_be_used_fails_the_job_with_its_line(database: Engine, models: Path) -> None:
    data = DATA.replace(b",positive", b",odd")
    with pytest.raises(PermanentError, match=r"a\.csv.*line 4, column 'mood': 'odd'") as refused:
        train(database, queue(database, spec_for(models, data)), MemoryStore(), models, data)
    assert refused.value.code == "training_data_invalid"


def test_another_base_under_the_name_is_refused(database: Engine, models: Path, tmp_path: Path) -> None:
    spec = spec_for(models).model_copy(update={"base_weights_sha256": "0" * 64})
    port, _ = port_for(database, queue(database, spec), MemoryStore(), models)
    with pytest.raises(WeightsDigestError, match="install the same base"):
        port.train_classifier(spec)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    groups = {"parameter": {"head": torch.ones(2)}}
    write_checkpoint(tmp_path, Progress(step=3), groups, spec_sha256="a" * 64)
    found = read_newest(tmp_path, spec_sha256="a" * 64)
    assert found is not None
    assert found[0].step == 3
    with pytest.raises(CheckpointError, match="a different training run"):
        read_newest(tmp_path, spec_sha256="b" * 64)


def test_a_published_classifier_is_installed_with_the_meaning_of_its_outputs(tmp_path: Path) -> None:
    named = write_tiny_bert(tmp_path / "named", labels={0: "positive", 1: "negative", 2: "neutral"})
    installed = add_model("named", tmp_path / "models", FolderSource(named), trial=load_nothing)
    assert installed.manifest.task == "classify"
    assert installed.manifest.chat_template_sha256 == ""
    assert read_classifier_settings(installed.folder).labels == {"positive": 0, "negative": 1, "neutral": 2}
    unnamed = write_tiny_bert(tmp_path / "unnamed", labels={0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"})
    with pytest.raises(LabelsUnknownError):
        add_model("unnamed", tmp_path / "models", FolderSource(unnamed))
    labels = parse_labels("negative=0,neutral=1,positive=2")
    installed = add_model(
        "unnamed", tmp_path / "models", FolderSource(unnamed), labels=labels, trial=load_nothing
    )
    assert verify_model(installed.folder) == installed.manifest


def test_labels_of_a_language_model_make_no_sense(tmp_path: Path) -> None:
    encoder = write_tiny_bert(tmp_path / "encoder")
    with pytest.raises(InputError, match="is not a classifier"):
        add_model(
            "e",
            tmp_path / "models",
            FolderSource(encoder),
            labels=parse_labels("negative=0,neutral=1,positive=2"),
        )
