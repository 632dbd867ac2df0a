"""A job's way to the models of its worker: tasks, abandonment, deadlines, and what is recorded of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast
from uuid import UUID

import pytest

from jobs.errors import DeadlineError, EngineLostError
from jobs.inference import Message, ModelTaskError, Prompt, Sampling, TextPair
from jobs.job import ClaimedJob
from jobs.provenance import sha256_hex
from tests.calibrations import model_calibration
from tests.factories import wait_until
from tests.fakes import MODEL, FakeEngine, fake_models
from tests.tiny_encoder import write_manifest, write_scripted_encoder, write_tiny_bert
from workers.engine import Encoder, EncoderRequest, EncoderRow, EncoderTask, EngineOptions
from workers.engines.scripted import Script
from workers.engines.scripted_encoder import scripted_encoder
from workers.inference import JobAbandonedError, JobInference
from workers.model_pool import EncoderModel, ModelNotWarmError, ModelPool, load_models
from workers.models.calibration import (
    CalibrationOfOtherWeightsError,
    remove_calibration,
    write_calibration,
)
from workers.models.classifier import CLASSIFIER
from workers.models.files import CALIBRATION
from workers.ports import JobContext, Ports
from workers.process import _places
from workers.tokenizer import load_row_tokenizer

SECONDS = 60.0
PROMPT = Prompt((Message("user", "hello"),))
PAIRS = [TextPair("Acme profit surges", "Acme"), TextPair("Acme shares fall on loss")]


class Clock(Protocol):
    """The type of a port that a kind might have."""


def job(model: str = "moods", *, attempt: int = 1) -> ClaimedJob:
    return ClaimedJob(
        id=UUID(int=1),
        batch_id=UUID(int=2),
        kind="trial",
        stage="write",
        custom_id="line-1",
        payload={},
        settings={},
        model=model,
        seed=0,
        queued_at=datetime(2026, 1, 1, tzinfo=UTC),
        attempt=attempt,
        num_failures=0,
        max_attempts=3,
        seconds_to_deadline=None,
    )


class Worker:
    """Three warm models, and a gate before the encoders' batches."""

    def __init__(self, folder: Path) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.fake = FakeEngine()
        generator = fake_models(self.fake).generator(MODEL)
        encoders = [self._encoder(folder / "moods", "classify"), self._encoder(folder / "vectors", "embed")]
        self.models = ModelPool([generator, *encoders])

    def _encoder(self, folder: Path, task: EncoderTask) -> EncoderModel:
        write_scripted_encoder(folder, task)
        manifest = write_manifest(folder, folder.name, task)
        tokenizer = load_row_tokenizer(folder)
        engine = scripted_encoder(tokenizer, EngineOptions(), task, Script(), self._pass)
        return EncoderModel(manifest, folder, tokenizer, engine, manifest.classifier_sha256)

    def _pass(self) -> None:
        self.reached.set()
        self.gate.wait(SECONDS)

    def inference(self, model: str = "moods", *, seconds: float = SECONDS, attempt: int = 1) -> JobInference:
        deadline_at = time.monotonic() + seconds
        return JobInference(job(model, attempt=attempt), self.models, deadline_at=deadline_at)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    one = Worker(tmp_path)
    yield one
    one.gate.set()
    one.models.close()


def test_one_job_asks_models_of_all_three_tasks(worker: Worker) -> None:
    inference = worker.inference()
    good, bad = inference.classify(PAIRS)
    assert good["positive"] > 0.5 < bad["negative"]
    assert sum(good.values) == pytest.approx(1.0)
    one, same, other = inference.embed(["a rise", "a rise", "a fall"], model="vectors")
    assert one == same != other
    inference.generate(PROMPT, Sampling(max_new_tokens=3), model=MODEL)
    use = inference.model_use()
    assert use.model is not None
    assert use.model.name == MODEL
    assert [model.name for model in use.models] == [MODEL, "moods", "vectors"]
    assert [(e.model.name, e.task, e.num_calls, e.num_inputs) for e in use.encodings] == [
        ("moods", "classify", 1, 2),
        ("vectors", "embed", 1, 3),
    ]
    assert len(use.generations) == 1


def test_an_embedding_says_how_much_of_its_text_it_was_made_from(worker: Worker) -> None:
    inference = worker.inference()
    short, long, endless = inference.embeddings(["rise", "rise " * 1_000, " " * 30_000], model="vectors")
    assert short.vector == inference.embed(["rise"], model="vectors")[0]
    assert (short.is_truncated, long.is_truncated, endless.is_truncated) == (False, True, True)
    assert short.num_tokens < long.num_tokens


def test_the_record_depends_on_inputs_and_model_and_not_on_how_calls_are_cut(worker: Worker) -> None:
    whole, cut, other = (worker.inference() for _ in range(3))
    whole.classify(PAIRS)
    for pair in PAIRS:
        cut.classify([pair])
    other.classify([PAIRS[1], PAIRS[0]])
    (a,), (b,), (c,) = (one.model_use().encodings for one in (whole, cut, other))
    assert (a.inputs_sha256, a.outputs_sha256) == (b.inputs_sha256, b.outputs_sha256)
    assert a.inputs_sha256 != c.inputs_sha256
    assert a.outputs_sha256 != c.outputs_sha256
    assert (a.num_calls, b.num_calls) == (1, 2)


def test_nothing_asked_is_nothing_recorded(worker: Worker) -> None:
    inference = worker.inference()
    assert inference.classify([]) == ()
    use = worker.inference().model_use()
    assert (use.model, use.models, use.generations, use.encodings) == (None, (), (), ())


@pytest.mark.parametrize(
    "ask",
    [
        lambda inference: inference.classify(PAIRS, model="vectors"),
        lambda inference: inference.classify(PAIRS, model=MODEL),
        lambda inference: inference.embed(["x"], model="moods"),
        lambda inference: inference.generate(PROMPT, Sampling(max_new_tokens=1), model="moods"),
    ],
)
def test_a_model_of_another_task_is_refused(worker: Worker, ask: Callable[[JobInference], object]) -> None:
    with pytest.raises(ModelTaskError):
        ask(worker.inference())


def test_a_model_that_is_not_warm_is_refused(worker: Worker) -> None:
    with pytest.raises(ModelNotWarmError):
        worker.inference("absent").classify(PAIRS)


def test_an_abandoned_job_stops_waiting_and_asks_nothing_more(worker: Worker) -> None:
    worker.gate.clear()
    inference = worker.inference()

    def abandon() -> None:
        worker.reached.wait(SECONDS)
        inference.abandon()

    threading.Thread(target=abandon).start()
    with pytest.raises(JobAbandonedError):
        inference.classify(PAIRS)
    with pytest.raises(JobAbandonedError):
        inference.embed(["x"], model="vectors")
    with pytest.raises(JobAbandonedError):
        JobContext(job(), inference, cast("Ports", None)).port(Clock)


def test_a_job_past_its_deadline_gets_a_deadline_error(worker: Worker) -> None:
    with pytest.raises(DeadlineError):
        worker.inference(seconds=-1).classify(PAIRS)


def test_an_encoder_that_does_not_answer_is_given_up(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.inference.ENGINE_GRACE_SECONDS", 0.1)
    worker.gate.clear()
    with pytest.raises(DeadlineError):
        worker.inference(seconds=0.1).classify(PAIRS)


def test_a_closing_worker_tells_who_waits_that_its_engine_is_lost(worker: Worker) -> None:
    worker.gate.clear()
    lost: list[BaseException] = []

    def ask(attempt: int) -> None:
        try:
            worker.inference(attempt=attempt).classify([TextPair(f"attempt {attempt}")])
        except EngineLostError as error:
            lost.append(error)

    running, waiting = (threading.Thread(target=ask, args=(attempt,)) for attempt in (1, 2))
    running.start()
    worker.reached.wait(SECONDS)
    waiting.start()
    encoder = worker.models.encoder("moods", "classify").engine
    wait_until(lambda: encoder.progress().num_waiting > 0, "the second job waits")
    closing = threading.Thread(target=worker.models.close)
    closing.start()
    wait_until(lambda: is_closed(encoder), "the encoder takes nothing more")
    worker.gate.set()
    for thread in (running, waiting, closing):
        thread.join(SECONDS)
    assert len(lost) == 1


def is_closed(encoder: Encoder) -> bool:
    future = encoder.submit(EncoderRequest(request_id=str(time.monotonic()), rows=(EncoderRow((5,), (0,)),)))
    return future.done() and isinstance(future.exception(), EngineLostError)


def test_classifier_digest_covers_weights_tokenizer_and_calibration(tmp_path: Path) -> None:
    digests = set()
    for number, change in enumerate(("", "classifier.json", "model.safetensors")):
        folder = tmp_path / str(number)
        write_scripted_encoder(folder)
        if change == "classifier.json":
            text = (folder / change).read_text()
            (folder / change).write_text(text.replace("1.7", "1.8"))
        if change == "model.safetensors":
            body = (folder / change).read_bytes()
            (folder / change).write_bytes(body[:-1] + b"\x01")
        write_manifest(folder, "moods", "classify")
        warm = load_models(
            tmp_path / str(number) / "..", [str(number)], engine="scripted", options=EngineOptions()
        )
        digests.add(JobInference(job(), warm, deadline_at=time.monotonic() + 60).model_sha256(model="moods"))
        warm.close()
    assert len(digests) == 3


def calibrate(worker: Worker, *, temperature: float) -> str:
    encoder = worker.models.encoder("moods", "classify")
    content = model_calibration(encoder.manifest, temperature=temperature)
    return write_calibration(encoder.folder, content).sha256


def test_a_warm_worker_takes_a_calibration_with_its_next_job(worker: Worker) -> None:
    answers = {}
    for name in ("without", "first", "second", "removed"):
        if name == "removed":
            remove_calibration(worker.models.encoder("moods", "classify").folder)
        elif name != "without":
            calibrate(worker, temperature=2.0 if name == "first" else 4.0)
        inference = worker.inference()
        answers[name] = (inference.model_sha256(), inference.classify(PAIRS))
    assert answers["removed"] == answers["without"]
    for part in (0, 1):
        assert len({answers[name][part] for name in ("without", "first", "second")}) == 3
    confidence = [answers[name][1][0]["positive"] for name in ("without", "first", "second")]
    assert sorted(confidence, reverse=True) == confidence


def test_a_jobs_answers_are_of_the_calibration_that_it_names_whatever_happens_meanwhile(
    worker: Worker,
) -> None:
    sha256 = calibrate(worker, temperature=2.0)
    inference, reference = worker.inference(), worker.inference()
    expected = reference.classify(PAIRS)
    model_sha256 = inference.model_sha256()
    calibrate(worker, temperature=4.0)
    assert inference.classify(PAIRS) == expected
    assert inference.model_sha256() == model_sha256 == reference.model_sha256()
    (encoding,) = inference.model_use().encodings
    assert encoding.calibration is not None
    assert (encoding.calibration.sha256, encoding.calibration.temperature) == (sha256, "2.0")
    assert encoding.outputs_sha256 == reference.model_use().encodings[0].outputs_sha256


def test_what_the_model_says_by_itself_can_be_asked_beside_what_is_calibrated(worker: Worker) -> None:
    plain = worker.inference().classify(PAIRS)
    calibrate(worker, temperature=2.0)
    inference = worker.inference()
    assert inference.classify(PAIRS, calibrated=False) == plain != inference.classify(PAIRS)
    use = inference.model_use()
    assert [one.calibration is None for one in use.encodings] == [True, False]
    assert [model.name for model in use.models] == ["moods"]


def test_a_calibration_of_other_weights_fails_the_job_and_not_the_figures(worker: Worker) -> None:
    folder = worker.models.encoder("moods", "classify").folder
    (folder / CALIBRATION).write_text(model_calibration().model_dump_json())
    with pytest.raises(CalibrationOfOtherWeightsError):
        worker.inference().classify(PAIRS)


@pytest.mark.parametrize("engine", ["scripted", "transformers"])
def test_a_profile_of_encoders_is_loaded_and_verified_by_task(tmp_path: Path, engine: str) -> None:
    tasks: dict[str, EncoderTask] = {"moods": "classify", "vectors": "embed"}
    for name, task in tasks.items():
        write = write_scripted_encoder if engine == "scripted" else write_tiny_bert
        write(tmp_path / name, task)
        write_manifest(tmp_path / name, name, task)
    warm = load_models(tmp_path, tasks, engine=engine, options=EngineOptions())
    try:
        inference = JobInference(job(), warm, deadline_at=time.monotonic() + 60)
        assert len(inference.classify(PAIRS)) == 2
        assert len(inference.embed(["x", "y"], model="vectors")) == 2
        assert _places(warm) > 1
        classifier = sha256_hex((tmp_path / "moods" / CLASSIFIER).read_bytes())
        assert inference.model_use().encodings[0].engine.classifier_sha256 == classifier
    finally:
        warm.close()
