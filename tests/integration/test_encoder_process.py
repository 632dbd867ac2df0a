"""The encoder's own process: answers as computed here, errors told, and an end with either of the two."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from jobs.errors import ConfigurationError, EngineLostError
from jobs.inference import TextPair
from tests.factories import wait_until
from tests.tiny_encoder import MAX_TOKENS, NUM_TOKENS, write_manifest, write_tiny_bert
from workers.engine import EncoderRequest, EncoderRow, EncoderTask, EngineOptions
from workers.engines.encoder_model import TransformersEncoder
from workers.engines.encoder_process import EncoderProcess, LoadRequest
from workers.engines.transformers_encoder import open_encoder
from workers.model_pool import load_models
from workers.models.classifier import CLASSIFIER
from workers.models.files import MalformedFileError, ModelIncompleteError
from workers.tokenizer import load_row_tokenizer

SECONDS = 60.0
NUM_CONNECTIONS = 2
OPTIONS = EngineOptions(num_threads=NUM_CONNECTIONS, max_prefill_tokens=512)
BAD = EncoderRow((NUM_TOKENS + 7,), (0,))
"""No engine lets it through: the model has no such token."""


def order_of(folder: Path, task: EncoderTask = "classify") -> LoadRequest:
    return LoadRequest(model_folder=folder, task=task, max_tokens=MAX_TOKENS, options=OPTIONS)


def rows_of(folder: Path, *texts: str) -> tuple[EncoderRow, ...]:
    return load_row_tokenizer(folder).encode([TextPair(text, "Acme") for text in texts])


def open_process(folder: Path, task: EncoderTask = "classify") -> EncoderProcess:
    return EncoderProcess(order_of(folder, task), NUM_CONNECTIONS, on_lost=lambda: None)


def child_of(process: psutil.Process) -> psutil.Process:
    return next(each for each in process.children() if "workers.engines.encoder_child" in each.cmdline())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("encoder") / "classifier")


@pytest.fixture
def encoder(folder: Path) -> Iterator[EncoderProcess]:
    process = open_process(folder)
    yield process
    process.close()


@pytest.mark.parametrize("task", ["classify", "embed"])
def test_answers_and_facts_are_those_of_this_process(tmp_path: Path, task: EncoderTask) -> None:
    folder = write_tiny_bert(tmp_path / task, task)
    rows = rows_of(folder, "profit rises", "a loss", "", "shares of Acme unchanged")
    here = TransformersEncoder(folder, MAX_TOKENS, OPTIONS, task)
    there = open_process(folder, task)
    try:
        for expected, answer in zip(here.encode(rows), there.encode(rows), strict=True):
            assert answer == pytest.approx(expected, abs=1e-6)
        assert (there.info, there.num_tokens) == (here.info, here.num_tokens)
        assert {type(version) for _, version in there.info.versions} == {str}  # torch's own type is not
    finally:
        there.close()


def test_a_batch_that_fails_says_why_and_the_next_is_answered(encoder: EncoderProcess, folder: Path) -> None:
    good = rows_of(folder, "profit")
    with pytest.raises(RuntimeError, match="index out of range"):
        encoder.encode([BAD, *good])
    assert len(encoder.encode(good)) == 1


def test_each_call_gets_its_own_answer(encoder: EncoderProcess, folder: Path) -> None:
    rows = rows_of(folder, *(f"shares {number}" for number in range(4)))
    expected = [encoder.encode([row])[0] for row in rows]

    def ask(number: int) -> bool:
        return all(encoder.encode([rows[number]])[0] == expected[number] for _ in range(25))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(4)))


def test_memory_that_is_short_is_told_as_such(encoder: EncoderProcess, folder: Path) -> None:
    rows = rows_of(folder, "x" * 1000) * 4000
    child = child_of(psutil.Process())
    resource.prlimit(child.pid, resource.RLIMIT_AS, (child.memory_info().vms + 2**26, resource.RLIM_INFINITY))
    with pytest.raises(MemoryError):
        encoder.encode(rows)
    assert len(encoder.encode(rows[:2])) == 2


def test_a_killed_process_loses_the_engine_and_charges_no_row(folder: Path) -> None:
    broken = threading.Event()
    options = EngineOptions(num_threads=NUM_CONNECTIONS, on_broken=broken.set)
    engine = open_encoder(folder, load_row_tokenizer(folder), options, "classify")
    child_of(psutil.Process()).kill()
    answer = engine.submit(EncoderRequest(request_id="r", rows=rows_of(folder, "alone")))
    with pytest.raises(EngineLostError):
        answer.result(SECONDS)
    assert broken.wait(SECONDS)
    engine.close()


def test_a_process_that_ends_at_rest_is_told_at_once(folder: Path) -> None:
    lost = threading.Event()
    encoder = EncoderProcess(order_of(folder), NUM_CONNECTIONS, on_lost=lost.set)
    child_of(psutil.Process()).kill()
    assert lost.wait(SECONDS)
    encoder.close()


def test_an_exchange_that_breaks_loses_the_engine_and_keeps_nobody_waiting(
    encoder: EncoderProcess, folder: Path
) -> None:
    rows = rows_of(folder, "profit")
    for connection in encoder._connections:
        connection.send_bytes(b"no pickle")
    for _ in range(2 * NUM_CONNECTIONS):
        with pytest.raises(EngineLostError):
            encoder.encode(rows)


def test_signals_are_left_to_the_worker(encoder: EncoderProcess, folder: Path) -> None:
    child = child_of(psutil.Process())
    for number in (signal.SIGINT, signal.SIGTERM):
        child.send_signal(number)
    assert len(encoder.encode(rows_of(folder, "profit"))) == 1


def test_closing_ends_the_process(folder: Path) -> None:
    encoder = open_process(folder)
    child = child_of(psutil.Process())
    encoder.close()
    assert child.wait(0) == 0 or not child.is_running()
    with pytest.raises(EngineLostError):
        encoder.encode(rows_of(folder, "late"))


WORKER = """
import sys
from pathlib import Path
from workers.engine import EncoderRow
from workers.tokenizer import load_row_tokenizer
from workers.engine import EngineOptions
from workers.engines.transformers_encoder import open_encoder
folder = Path(sys.argv[1])
encoder = open_encoder(folder, load_row_tokenizer(folder), EngineOptions(num_threads=2), "classify")
encoder.warm()
print("torch" in sys.modules, flush=True)
rows = (EncoderRow((5,) * 96, (0,) * 96),) * 5_000
while True:
    encoder._executor.encode(rows)
"""


def test_the_process_spares_its_worker_torch_and_does_not_outlive_it_in_a_step(folder: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as parent:
        assert parent.stdout is not None
        said = parent.stdout.readline()
        child = child_of(psutil.Process(parent.pid))
        used = sum(child.cpu_times()[:2])
        wait_until(lambda: sum(child.cpu_times()[:2]) > used + 0.5, "a step is under way")
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(SECONDS)
        assert parent.stderr is not None
        stacks = parent.stderr.read()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "its end")
    assert said == "False\n"
    assert "encoder_model.py" in stacks  # where the step was


def test_a_model_that_cannot_be_loaded_says_why_and_leaves_no_process(tmp_path: Path) -> None:
    with pytest.raises(ModelIncompleteError, match=r"classifier\.weight.*the model is not a classifier"):
        open_process(write_tiny_bert(tmp_path / "embedder", "embed"), "classify")
    folder = write_tiny_bert(tmp_path / "classifier")
    (folder / CLASSIFIER).write_text("[]")
    with pytest.raises(MalformedFileError, match=re.escape(CLASSIFIER)):
        open_process(folder)
    assert not [each for each in psutil.Process().children() if "encoder_child" in " ".join(each.cmdline())]


def test_a_misspelt_engine_is_refused_for_an_encoder(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "mood")
    write_manifest(folder, "mood", "classify")
    with pytest.raises(ConfigurationError, match="transfromers") as refusal:
        load_models(tmp_path, ["mood"], engine="transfromers", options=OPTIONS)
    assert refusal.value.code == "engine_not_installed"
