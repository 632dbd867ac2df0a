"""What every encoder promises, asked of each: the scripted one and the transformers one on a tiny model."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from jobs.errors import DeadlineError, EngineError, EngineLostError, InputError
from jobs.inference import TextPair
from tests.tiny_encoder import MAX_TOKENS, NUM_TOKENS, write_scripted_encoder, write_tiny_bert
from workers.engine import EncoderInfo, EncoderRequest, EncoderRow, EncoderTask, EngineOptions, Vector
from workers.engines.encoder_model import TransformersEncoder
from workers.engines.encoding import EncoderExecutor, EncodingEngine
from workers.engines.scripted import Script
from workers.engines.scripted_encoder import ScriptedEncoder
from workers.tokenizer import RowTokenizer, load_row_tokenizer

SECONDS = 60.0
BAD = EncoderRow((77, 77), (0, 0))
"""A batch with this row fails, as long as the turnstile's `fails` is set."""
BUDGET = 256


class Turnstile:
    """Everything passes to the real executor, when the gate is open."""

    def __init__(self, executor: EncoderExecutor) -> None:
        self._executor = executor
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.fails = False
        self.answers_nothing_finite = False
        self.max_rows: int | None = None
        self.batches: list[list[EncoderRow]] = []

    @property
    def info(self) -> EncoderInfo:
        return self._executor.info

    @property
    def num_tokens(self) -> int:
        return self._executor.num_tokens

    @property
    def step_tokens(self) -> int:
        return self._executor.step_tokens

    def encode(self, rows: Sequence[EncoderRow]) -> list[Vector]:
        self.reached.set()
        self.gate.wait(SECONDS)
        if self.max_rows is not None and len(rows) > self.max_rows:
            raise MemoryError("the test allows fewer rows")
        if self.fails and BAD in rows:
            raise RuntimeError("the test makes this row fail")
        self.batches.append(list(rows))
        answers = self._executor.encode(rows)
        if self.answers_nothing_finite:
            return [
                (math.nan,) * len(answer) if row == BAD else answer
                for row, answer in zip(rows, answers, strict=True)
            ]
        return answers

    def close(self) -> None:
        self._executor.close()


class Bench:
    """An encoder, and the turnstile in front of its device."""

    def __init__(
        self, turnstile: Turnstile, tokenizer: RowTokenizer, options: EngineOptions, num_lanes: int
    ) -> None:
        self.turnstile = turnstile
        self.tokenizer = tokenizer
        self.engine = EncodingEngine(turnstile, options, num_lanes=num_lanes)

    def submit(
        self, request_id: str, rows: Sequence[EncoderRow], **values: float
    ) -> Future[tuple[Vector, ...]]:
        deadline_at = values.get("deadline_at")
        return self.engine.submit(
            EncoderRequest(request_id=request_id, rows=tuple(rows), deadline_at=deadline_at)
        )

    def rows(self, texts: Sequence[str]) -> tuple[EncoderRow, ...]:
        return self.tokenizer.encode([TextPair(text) for text in texts])

    def close(self) -> None:
        self.turnstile.gate.set()
        self.engine.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {
        f"{name}-{task}": write(root / f"{name}-{task}", task)
        for name, write in (("scripted", write_scripted_encoder), ("transformers", write_tiny_bert))
        for task in _TASKS
    }


_TASKS: tuple[EncoderTask, ...] = ("classify", "embed")


@pytest.fixture(params=["scripted", "transformers"])
def open_bench(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def open_one(
        task: EncoderTask = "classify",
        on_broken: Callable[[], None] | None = None,
        budget: int = BUDGET,
        num_lanes: int = 1,
    ) -> Bench:
        options = EngineOptions(max_prefill_tokens=budget, on_broken=on_broken)
        folder = folders[f"{request.param}-{task}"]
        tokenizer = load_row_tokenizer(folder)
        executor: EncoderExecutor = (
            ScriptedEncoder(tokenizer, options, task, Script())
            if request.param == "scripted"
            else TransformersEncoder(folder, tokenizer.max_tokens, options, task)
        )
        benches.append(Bench(Turnstile(executor), tokenizer, options, num_lanes))
        return benches[-1]

    yield open_one
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(open_bench: Callable[..., Bench]) -> Bench:
    return open_bench()


def some_texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    words = ("profit", "falls", "rises", "acme", "the", "loss", "a", "quarter", "shares", "unchanged")
    return [" ".join(draw.choices(words, k=draw.randint(1, 14))) + f" {number}" for number in range(count)]


def close_to(left: Vector, right: Vector) -> bool:
    return len(left) == len(right) and all(abs(a - b) < 1e-5 for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("task", _TASKS)
def test_answers_are_the_same_alone_and_in_any_batch(
    open_bench: Callable[..., Bench], task: EncoderTask
) -> None:
    texts = some_texts(60, seed=1)
    alone = open_bench(task)
    expected = [alone.submit(f"r{n}", alone.rows([text])).result(SECONDS)[0] for n, text in enumerate(texts)]
    together = open_bench(task, budget=600, num_lanes=2)
    draw = random.Random(2)
    places = draw.sample(range(60), 60)
    futures = [
        together.submit(f"r{begin}", together.rows([texts[place] for place in places[begin : begin + 7]]))
        for begin in range(0, 60, 7)
    ]
    answers = [answer for future in futures for answer in future.result(SECONDS)]
    for place, answer in zip(places, answers, strict=True):
        assert close_to(answer, expected[place])
    assert max(map(len, together.turnstile.batches)) > 1


def test_probabilities_sum_to_one_and_vectors_have_length_one(open_bench: Callable[..., Bench]) -> None:
    for task, total in (("classify", sum), ("embed", lambda vector: math.hypot(*vector))):
        bench = open_bench(task)
        for answer in bench.submit("r", bench.rows(["", *some_texts(9, seed=3)])).result(SECONDS):
            assert total(answer) == pytest.approx(1.0, abs=1e-5)


def test_equal_rows_in_flight_are_computed_once(bench: Bench) -> None:
    bench.turnstile.gate.clear()
    bench.submit("first", bench.rows(["busy"]))
    bench.turnstile.reached.wait(SECONDS)
    futures = [bench.submit(f"r{n}", bench.rows(["the same", "the same", f"own {n}"])) for n in range(3)]
    bench.turnstile.gate.set()
    answers = [future.result(SECONDS) for future in futures]
    assert len({answer[0] for answer in answers} | {answer[1] for answer in answers}) == 1
    assert sum(len(batch) for batch in bench.turnstile.batches) == 1 + 1 + 3


def test_rows_of_several_requests_share_a_step_within_the_budget(bench: Bench) -> None:
    bench.turnstile.gate.clear()
    futures = [bench.submit(f"r{n}", bench.rows([f"text {n:2}"])) for n in range(60)]
    bench.turnstile.gate.set()
    for future in futures:
        future.result(SECONDS)
    assert len(bench.turnstile.batches) < 30
    for batch in bench.turnstile.batches:
        assert len(batch) * max(len(row.token_ids) for row in batch) <= BUDGET


def test_lanes_compute_at_the_same_time_and_a_row_of_one_is_not_computed_by_another(
    open_bench: Callable[..., Bench],
) -> None:
    bench = open_bench(budget=MAX_TOKENS, num_lanes=2)
    met = threading.Barrier(3)
    encode = bench.turnstile.encode

    def meet(rows: Sequence[EncoderRow]) -> list[Vector]:
        met.wait(SECONDS)
        return encode(rows)

    bench.turnstile.encode = meet  # type: ignore[method-assign]
    bench.turnstile.gate.clear()
    long = [" ".join([word] * MAX_TOKENS) for word in ("profit", "loss", "profit", "loss")]
    first = bench.submit("first", bench.rows(long))
    met.wait(SECONDS)
    second = bench.submit("second", bench.rows(long))
    bench.turnstile.gate.set()
    assert first.result(SECONDS) == second.result(SECONDS)
    assert [len(batch) for batch in bench.turnstile.batches] == [1, 1]


def test_a_lost_device_is_told_once_whatever_the_lanes(open_bench: Callable[..., Bench]) -> None:
    broken: list[str] = []
    bench = open_bench(on_broken=lambda: broken.append("lost"), num_lanes=3)
    bench.turnstile.max_rows = 2
    bench.turnstile.gate.clear()

    def lost(rows: Sequence[EncoderRow]) -> list[Vector]:
        bench.turnstile.gate.wait(SECONDS)
        raise RuntimeError("CUDA error")

    bench.turnstile.encode = lost  # type: ignore[method-assign]
    futures = [bench.submit(f"r{n}", bench.rows(some_texts(40, seed=n))) for n in range(4)]
    bench.turnstile.gate.set()
    for future in futures:
        with pytest.raises(EngineLostError):
            future.result(SECONDS)
    assert broken == ["lost"]


@pytest.mark.parametrize(
    "row",
    [
        EncoderRow((), ()),
        EncoderRow((1,) * (MAX_TOKENS + 1), (0,) * (MAX_TOKENS + 1)),
        EncoderRow((1, 2), (0,)),
        EncoderRow((1, NUM_TOKENS), (0, 0)),
        EncoderRow((-1,), (0,)),
    ],
    ids=["empty", "long", "torn", "high", "negative"],
)
def test_bad_request_fails_alone(bench: Bench, row: EncoderRow) -> None:
    good = bench.submit("good", bench.rows(["good"]))
    with pytest.raises(InputError):
        bench.submit("bad", [row]).result(SECONDS)
    assert len(good.result(SECONDS)) == 1


def test_a_request_without_rows_is_answered_at_once(bench: Bench) -> None:
    assert bench.submit("none", []).result(0) == ()


def test_second_request_with_the_same_id_is_refused(bench: Bench) -> None:
    bench.turnstile.gate.clear()
    first = bench.submit("twin", bench.rows(["a"]))
    with pytest.raises(InputError, match="already in flight"):
        bench.submit("twin", bench.rows(["b"])).result(SECONDS)
    bench.turnstile.gate.set()
    first.result(SECONDS)
    bench.submit("twin", bench.rows(["c"])).result(SECONDS)


@pytest.mark.parametrize("fault", ["fails", "answers_nothing_finite"])
def test_error_of_a_step_reaches_only_its_cause(bench: Bench, fault: str) -> None:
    setattr(bench.turnstile, fault, True)
    bench.turnstile.gate.clear()
    good = [bench.submit(f"good{n}", bench.rows([f"{n}"])) for n in range(9)]
    bad = bench.submit("bad", [*bench.rows(["x"]), BAD])
    bench.turnstile.gate.set()
    with pytest.raises(EngineError, match="request bad failed for row 1") as raised:
        bad.result(SECONDS)
    assert raised.type is EngineError
    assert all(len(future.result(SECONDS)) == 1 for future in good)


@pytest.mark.attack("engine out of memory")
def test_encoder_goes_on_in_smaller_batches_when_memory_is_short(bench: Bench) -> None:
    bench.turnstile.max_rows = 1
    assert len(bench.submit("r", bench.rows(some_texts(12, seed=4))).result(SECONDS)) == 12
    assert {len(batch) for batch in bench.turnstile.batches} == {1}


def test_encoder_ends_and_charges_nobody_when_its_device_is_lost(open_bench: Callable[..., Bench]) -> None:
    broken = threading.Event()
    bench = open_bench(on_broken=broken.set)
    bench.turnstile.gate.clear()
    before = bench.submit("before", bench.rows(["before"]))
    bench.turnstile.reached.wait(SECONDS)

    def lost(rows: Sequence[EncoderRow]) -> list[Vector]:
        raise RuntimeError("CUDA error")

    futures = [bench.submit(f"r{n}", bench.rows([f"{n}"])) for n in range(4)]
    bench.turnstile.encode = lost  # type: ignore[method-assign]
    bench.turnstile.gate.set()
    before.result(SECONDS)
    assert broken.wait(SECONDS)
    for future in futures:
        with pytest.raises(EngineLostError):
            future.result(SECONDS)
    with pytest.raises(EngineLostError):
        bench.submit("after", bench.rows(["after"])).result(SECONDS)


def test_cancelled_requests_are_not_computed(bench: Bench) -> None:
    bench.turnstile.gate.clear()
    first = bench.submit("first", bench.rows(["first"]))
    bench.turnstile.reached.wait(SECONDS)
    futures = {name: bench.submit(name, bench.rows([f"{name} text"])) for name in ("r0", "r1", "r2")}
    shared = bench.submit("shared", bench.rows(["r2 text"]))
    for name in ("r0", "r2"):
        bench.engine.cancel(name)
        with pytest.raises(CancelledError):
            futures[name].result(SECONDS)
    bench.engine.cancel("never submitted")
    bench.turnstile.gate.set()
    for future in (first, futures["r1"], shared):
        assert len(future.result(SECONDS)) == 1
    computed = {bench.tokenizer.decode(row)[0] for batch in bench.turnstile.batches for row in batch}
    assert computed == {"first", "r1 text", "r2 text"}


def test_deadline_ends_waiting_requests(bench: Bench) -> None:
    bench.turnstile.gate.clear()
    good = bench.submit("good", bench.rows(["good"]))
    bench.turnstile.reached.wait(SECONDS)
    deadline_at = time.monotonic() + 0.2
    late = bench.submit("late", bench.rows(["late"]), deadline_at=deadline_at)
    while time.monotonic() < deadline_at:
        threading.Event().wait(deadline_at - time.monotonic())
    bench.turnstile.gate.set()
    with pytest.raises(DeadlineError):
        late.result(SECONDS)
    assert len(good.result(SECONDS)) == 1
    with pytest.raises(DeadlineError):
        bench.submit("past", bench.rows(["past"]), deadline_at=time.monotonic() - 1).result(SECONDS)


@pytest.mark.parametrize("num_lanes", [1, 3])
def test_close_completes_every_future(open_bench: Callable[..., Bench], num_lanes: int) -> None:
    bench = open_bench(num_lanes=num_lanes)
    bench.turnstile.gate.clear()
    futures = [bench.submit(f"r{n}", bench.rows(some_texts(20, seed=n))) for n in range(8)]
    bench.turnstile.reached.wait(SECONDS)
    closing = threading.Thread(target=bench.engine.close)
    closing.start()
    while not isinstance(bench.submit("late", bench.rows(["x"])).exception(SECONDS), EngineLostError):
        pass
    bench.turnstile.gate.set()
    closing.join(SECONDS)
    for future in futures:
        with pytest.raises(EngineLostError):
            future.result(SECONDS)


@pytest.mark.parametrize("num_lanes", [1, 3])
def test_any_thread_may_submit_and_progress_says_when_all_is_done(
    open_bench: Callable[..., Bench], num_lanes: int
) -> None:
    bench = open_bench(num_lanes=num_lanes)
    results: list[int] = []

    def work(name: int) -> None:
        for turn in range(5):
            rows = bench.rows(some_texts(6, seed=name * 10 + turn))
            results.append(len(bench.submit(f"{name}-{turn}", rows).result(SECONDS)))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert results == [6] * 40
    progress = bench.engine.progress()
    assert (progress.num_running, progress.num_waiting, progress.num_steps > 0) == (0, 0, True)


def test_warming_fills_one_step(bench: Bench) -> None:
    bench.engine.warm()
    assert [len(batch) for batch in bench.turnstile.batches] == [BUDGET // MAX_TOKENS]
