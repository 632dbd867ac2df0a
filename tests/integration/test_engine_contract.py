"""What every engine promises, asked of each: the scripted one and the transformers one on a tiny model."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.errors import DeadlineError, EngineError, EngineLostError, InputError, PromptTooLongError
from jobs.inference import Completion, FinishReason, Sampling
from tests.tiny_llama import NUM_TOKENS, write_tiny_llama
from tests.turnstile import BAD_TOKEN, Turnstile
from workers.engine import EngineOptions, Request
from workers.engines.batching import BatchingEngine, Executor
from workers.engines.scripted import Script, ScriptedExecutor
from workers.engines.transformers import TransformersExecutor
from workers.tokenizer import ChatTokenizer, load_tokenizer

OPTIONS = EngineOptions(num_slots=4, max_context_tokens=300, max_prefill_tokens=128)
SECONDS = 60.0
"""Far more than any of these takes; reaching it is a hang."""


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> ChatTokenizer:
    return load_tokenizer(tiny_folder)


class Bench:
    """An engine, and the turnstile in front of its device."""

    def __init__(self, turnstile: Turnstile, tokenizer: ChatTokenizer, options: EngineOptions) -> None:
        self.turnstile = turnstile
        self.engine = BatchingEngine(turnstile, tokenizer, options)

    def submit(self, request_id: str, prompt: tuple[int, ...], **sampling: object) -> Future[Completion]:
        return self.engine.submit(request(request_id, prompt, **sampling))

    def close(self) -> None:
        self.turnstile.gate.set()
        self.engine.close()


def request(request_id: str, prompt: tuple[int, ...], **sampling: object) -> Request:
    values: dict[str, object] = {"max_new_tokens": 8, "ignore_end_of_text": True, **sampling}
    return Request(request_id=request_id, prompt_ids=prompt, sampling=Sampling(**values))  # type: ignore[arg-type]


@pytest.fixture(params=["scripted", "transformers"])
def open_bench(
    request: pytest.FixtureRequest, tiny_folder: Path, tokenizer: ChatTokenizer
) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def open_one(**changes: object) -> Bench:
        options = replace(OPTIONS, **changes)  # type: ignore[arg-type]
        executor: Executor = (
            ScriptedExecutor(tokenizer, options, Script())
            if request.param == "scripted"
            else TransformersExecutor(tiny_folder, options)
        )
        benches.append(Bench(Turnstile(executor), tokenizer, options))
        return benches[-1]

    yield open_one
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(open_bench: Callable[..., Bench]) -> Bench:
    return open_bench()


def some_requests(count: int, seed: int, **sampling: object) -> list[Request]:
    """Prompts of 1 to 200 tokens, half of which share a prefix, with outputs of different lengths."""
    draw = random.Random(seed)
    shared = tuple(draw.randrange(256) for _ in range(80))
    requests = []
    for index in range(count):
        own = tuple(draw.randrange(256) for _ in range(draw.randint(1, 120)))
        prompt = shared + own if draw.random() < 0.5 else own
        values = {"max_new_tokens": draw.randint(1, 24), "seed": index, **sampling}
        requests.append(request(f"r{index}", prompt, **values))
    return requests


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"repetition_penalty": 1.3},
        {"temperature": 0.9, "top_p": 0.9, "repetition_penalty": 1.1},
        {"temperature": 1.0, "top_k": 7},
        {"temperature": 1.5},
        {"temperature": 1.2, "min_p": 0.05, "logit_bias": ((3, 2.0), (9, -100.0))},
        {"frequency_penalty": 0.8, "presence_penalty": 0.4},
    ],
    ids=["greedy", "penalty", "nucleus", "top-k", "open", "min-p and bias", "output penalties"],
)
def test_tokens_are_the_same_alone_and_in_any_batch(
    open_bench: Callable[..., Bench], sampling: dict[str, object]
) -> None:
    requests = some_requests(24, seed=1, **sampling)
    alone_bench = open_bench(num_slots=1, max_prefix_tokens=0)
    alone = {r.request_id: alone_bench.engine.submit(r).result(SECONDS).token_ids for r in requests}
    for seed in range(3):
        bench = open_bench()
        draw = random.Random(seed)
        shuffled = draw.sample(requests, len(requests))
        futures = {}
        for arrival in shuffled:
            futures[arrival.request_id] = bench.engine.submit(arrival)
            if draw.random() < 0.3:  # let the engine go on before the next arrival
                futures[draw.choice(list(futures))].result(SECONDS)
        together = {request_id: future.result(SECONDS) for request_id, future in futures.items()}
        assert {request_id: done.token_ids for request_id, done in together.items()} == alone
        assert sum(done.usage.cached_tokens for done in together.values()) > 0


def mixed_requests(count: int, seed: int) -> list[Request]:
    """Requests of which each has sampling parameters of its own."""
    draw = random.Random(seed)
    choices: dict[str, tuple[object, ...]] = {
        "temperature": (0.0, 0.0, 0.8, 1.3),
        "top_k": (0, 0, 6),
        "top_p": (1.0, 1.0, 0.8),
        "min_p": (0.0, 0.0, 0.1),
        "repetition_penalty": (1.0, 1.0, 1.3),
        "presence_penalty": (0.0, 0.0, 1.0),
        "frequency_penalty": (0.0, 0.0, -0.5),
        "logit_bias": ((), (), ((65, 4.0), (66, -100.0))),
        "num_logprobs": (None, None, 0, 3),
        "min_new_tokens": (0, 0, 6),
        "stop": ((), (), ("e", "zz")),
    }
    requests = []
    for each in some_requests(count, seed):
        values = {name: draw.choice(values) for name, values in choices.items()}
        values |= {"max_new_tokens": draw.randint(6, 24), "seed": each.sampling.seed}
        values["ignore_end_of_text"] = False
        requests.append(request(each.request_id, each.prompt_ids, **values))
    return requests


def test_tokens_of_differently_sampled_requests_are_the_same_alone_and_together(
    open_bench: Callable[..., Bench],
) -> None:
    requests = mixed_requests(32, seed=2)
    alone_bench = open_bench(num_slots=1, max_prefix_tokens=0)
    alone = {r.request_id: alone_bench.engine.submit(r).result(SECONDS) for r in requests}
    bench = open_bench(num_slots=16)
    futures = {r.request_id: bench.engine.submit(r) for r in requests}
    for request_id, future in futures.items():
        done, expected = future.result(SECONDS), alone[request_id]
        assert (done.token_ids, done.text, done.stop_string, done.finish_reason) == (
            expected.token_ids,
            expected.text,
            expected.stop_string,
            expected.finish_reason,
        )


@pytest.mark.parametrize("num_logprobs", [0, 5])
def test_log_probabilities_cover_every_token(bench: Bench, num_logprobs: int) -> None:
    silent = bench.submit("silent", (5, 6, 7))
    done = bench.submit("told", (5, 6, 7), num_logprobs=num_logprobs).result(SECONDS)
    assert silent.result(SECONDS).logprobs is None
    assert done.token_ids == silent.result().token_ids
    assert done.logprobs is not None
    assert tuple(each.token_id for each in done.logprobs) == done.token_ids
    for each in done.logprobs:
        assert -9999 <= each.logprob <= 0
        assert len(each.top) == num_logprobs
        assert [other.logprob for other in each.top] == sorted(
            (other.logprob for other in each.top), reverse=True
        )
        if each.top:  # a greedy choice is the most likely token
            assert (each.top[0].token_id, each.top[0].token) == (each.token_id, each.token)
        assert each.token == each.utf8.decode(errors="replace")
    assert b"".join(each.utf8 for each in done.logprobs).decode(errors="replace") == done.text


def test_text_is_no_shorter_than_its_minimum(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    free = bench.submit("free", (5, 6, 7)).result(SECONDS)
    end = free.token_ids[0]
    monkeypatch.setattr(bench.engine._tokenizer, "end_of_text_ids", frozenset({end}))
    for minimum in (1, 4, 8):
        done = bench.submit(
            f"at least {minimum}", (5, 6, 7), ignore_end_of_text=False, min_new_tokens=minimum
        ).result(SECONDS)
        assert end not in done.token_ids[:minimum]
        assert len(done.token_ids) >= minimum


def test_stop_string_before_the_minimum_does_not_end_the_text(bench: Bench, tokenizer: ChatTokenizer) -> None:
    prompt = tokenizer.encode_text("the quick brown fox jumps over the lazy dog")
    free = bench.submit("free", prompt, max_new_tokens=20).result(SECONDS)
    stop = free.text[:1]
    early = bench.submit("early", prompt, max_new_tokens=20, stop=(stop,)).result(SECONDS)
    done = bench.submit("late", prompt, max_new_tokens=20, stop=(stop,), min_new_tokens=8).result(SECONDS)
    assert (early.text, len(early.token_ids) < 8) == ("", True)
    assert done.text.startswith(stop)
    assert len(done.token_ids) >= 8
    assert done.token_ids == free.token_ids[: len(done.token_ids)]


def test_usage_counts_prompt_and_new_tokens(bench: Bench) -> None:
    done = bench.submit("one", (1, 2, 3), max_new_tokens=5).result(SECONDS)
    assert (done.usage.prompt_tokens, done.usage.cached_tokens, done.usage.new_tokens) == (3, 0, 5)
    assert done.finish_reason is FinishReason.LENGTH
    assert len(done.token_ids) == 5


def test_more_requests_than_slots_run_in_batches(bench: Bench) -> None:
    bench.turnstile.gate.clear()
    futures = [bench.submit(f"r{n}", (n + 1,)) for n in range(10)]
    bench.turnstile.reached.wait(SECONDS)
    bench.turnstile.gate.set()
    for future in futures:
        future.result(SECONDS)
    sizes = [len(batch) for batch in bench.turnstile.batches]
    assert max(sizes) == OPTIONS.num_slots
    assert len(sizes) < 10 * 8


def test_end_of_text_ends_the_text_unless_ignored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    free = bench.submit("free", (5, 6, 7)).result(SECONDS)
    end = free.token_ids[2]
    monkeypatch.setattr(bench.engine._tokenizer, "end_of_text_ids", frozenset({end}))
    ended = bench.submit("ended", (5, 6, 7), ignore_end_of_text=False).result(SECONDS)
    assert ended.finish_reason is FinishReason.STOP
    assert ended.token_ids == free.token_ids[: free.token_ids.index(end) + 1]
    assert bench.submit("ignored", (5, 6, 7)).result(SECONDS).token_ids == free.token_ids


def test_text_ends_before_a_stop_string(bench: Bench) -> None:
    prompt = tuple(b"the quick brown fox jumps over the lazy dog")
    free = bench.submit("free", prompt, max_new_tokens=20).result(SECONDS)
    stop = free.text[4:6]
    done = bench.submit("stopped", prompt, max_new_tokens=20, stop=(stop, "never written")).result(SECONDS)
    assert done.finish_reason is FinishReason.STOP
    assert done.stop_string == stop
    assert done.text == free.text[: free.text.index(stop)]
    assert free.token_ids[: len(done.token_ids)] == done.token_ids


@pytest.mark.parametrize(
    ("prompt", "sampling", "error"),
    [
        ((), {}, InputError),
        ((1, NUM_TOKENS), {}, InputError),
        ((-1,), {}, InputError),
        ((1,) * 300, {}, PromptTooLongError),
        ((1,), {"max_new_tokens": 300}, PromptTooLongError),
        ((1,), {"max_new_tokens": 0}, InputError),
        ((1,), {"temperature": float("nan")}, InputError),
        ((1,), {"top_p": 0.0}, InputError),
        ((1,), {"repetition_penalty": 0.0}, InputError),
        ((1,), {"seed": 2**64}, InputError),
        ((1,), {"stop": ("",)}, InputError),
        ((1,), {"min_p": 1.5}, InputError),
        ((1,), {"min_p": float("nan")}, InputError),
        ((1,), {"presence_penalty": 2.5}, InputError),
        ((1,), {"frequency_penalty": float("nan")}, InputError),
        ((1,), {"min_new_tokens": -1}, InputError),
        ((1,), {"min_new_tokens": 9}, InputError),
        ((1,), {"logit_bias": ((NUM_TOKENS, 1.0),)}, InputError),
        ((1,), {"logit_bias": ((1, 101.0),)}, InputError),
        ((1,), {"logit_bias": ((1, 1.0), (1, 2.0))}, InputError),
        ((1,), {"num_logprobs": 21}, InputError),
    ],
)
def test_bad_request_fails_alone(
    bench: Bench, prompt: tuple[int, ...], sampling: dict[str, object], error: type[Exception]
) -> None:
    good = bench.submit("good", (1, 2))
    with pytest.raises(error):
        bench.submit("bad", prompt, **sampling).result(SECONDS)
    assert len(good.result(SECONDS).token_ids) == 8


def test_second_request_with_the_same_id_is_refused(bench: Bench) -> None:
    bench.turnstile.gate.clear()
    first = bench.submit("twin", (1,))
    with pytest.raises(InputError, match="already in flight"):
        bench.submit("twin", (2,)).result(SECONDS)
    bench.turnstile.gate.set()
    first.result(SECONDS)
    bench.submit("twin", (2,)).result(SECONDS)


def test_error_of_a_step_reaches_only_its_cause(bench: Bench) -> None:
    bench.turnstile.fails = True
    bench.turnstile.gate.clear()
    good = [bench.submit(f"good{n}", (n + 1, 5)) for n in range(5)]
    bad = bench.submit("bad", (BAD_TOKEN, 5))
    bench.turnstile.gate.set()
    with pytest.raises(EngineError, match="bad failed"):
        bad.result(SECONDS)
    assert [len(future.result(SECONDS).token_ids) for future in good] == [8] * 5


def test_prefix_that_cannot_be_kept_is_computed_again(bench: Bench) -> None:
    prompt = tuple(range(100))
    expected = bench.submit("first", (*prompt, 1)).result(SECONDS).token_ids
    bench.turnstile.fails = True
    bench.turnstile.gate.clear()
    futures = [bench.submit(f"r{n}", (*prompt, 1)) for n in range(3)]
    bench.turnstile.gate.set()
    done = [future.result(SECONDS) for future in futures]
    assert [completion.token_ids for completion in done] == [expected] * 3
    assert sum(completion.usage.cached_tokens for completion in done) == 0


@pytest.mark.attack("engine out of memory")
def test_engine_goes_on_in_smaller_batches_when_memory_is_short(bench: Bench) -> None:
    bench.turnstile.max_rows = 1
    futures = [bench.submit(f"r{n}", (n + 1,)) for n in range(6)]
    assert [len(future.result(SECONDS).token_ids) for future in futures] == [8] * 6
    assert len(bench.turnstile.batches[-1]) == 1


@pytest.mark.attack("engine out of memory")
@pytest.mark.parametrize("fault", ["breaks_moves", "fails"])
def test_engine_ends_and_charges_nobody_when_its_device_is_lost(
    open_bench: Callable[..., Bench], fault: str
) -> None:
    broken = threading.Event()
    bench = open_bench(on_broken=broken.set)
    bench.turnstile.gate.clear()
    bench.submit("before", (1,), max_new_tokens=1)
    bench.turnstile.reached.wait(SECONDS)
    futures = [bench.submit(f"r{n}", (BAD_TOKEN, n), max_new_tokens=n + 2) for n in range(4)]  # one batch
    setattr(bench.turnstile, fault, True)
    bench.turnstile.gate.set()
    assert broken.wait(SECONDS)
    lost = [error for future in futures if (error := future.exception(SECONDS)) is not None]
    assert lost
    assert {type(error) for error in lost} == {EngineLostError}
    with pytest.raises(EngineLostError):
        bench.submit("after", (1,)).result(SECONDS)


def test_error_of_a_request_alone_is_its_own(bench: Bench) -> None:
    bench.turnstile.fails = True
    for name in ("bad", "bad again"):
        with pytest.raises(EngineError, match=f"{name} failed") as raised:
            bench.submit(name, (BAD_TOKEN,)).result(SECONDS)
        assert raised.type is EngineError
    assert len(bench.submit("good", (1,)).result(SECONDS).token_ids) == 8


def test_cancelled_requests_end_whether_waiting_or_running(bench: Bench) -> None:
    bench.turnstile.gate.clear()
    futures = {f"r{n}": bench.submit(f"r{n}", (n + 1,), max_new_tokens=200) for n in range(8)}
    bench.turnstile.reached.wait(SECONDS)
    for request_id in ("r0", "r6"):
        bench.engine.cancel(request_id)
        with pytest.raises(CancelledError):
            futures[request_id].result(SECONDS)
    bench.engine.cancel("never submitted")
    reused = bench.submit("r0", (9,))
    assert futures["r7"].cancel()
    bench.turnstile.gate.set()
    assert len(reused.result(SECONDS).token_ids) == 8
    for request_id in ("r1", "r2", "r3", "r4", "r5"):
        assert len(futures[request_id].result(SECONDS).token_ids) == 200
    assert not any("r6" in batch or "r7" in batch for batch in bench.turnstile.batches)


def test_deadline_ends_waiting_and_running_requests(bench: Bench) -> None:
    bench.turnstile.gate.clear()
    deadline_at = time.monotonic() + 0.2
    late = [
        bench.engine.submit(
            replace(request(f"late{n}", (n + 1,), max_new_tokens=200), deadline_at=deadline_at)
        )
        for n in range(6)
    ]
    good = bench.submit("good", (3,))
    bench.turnstile.reached.wait(SECONDS)
    while time.monotonic() < deadline_at:
        threading.Event().wait(deadline_at - time.monotonic())
    bench.turnstile.gate.set()
    for future in late:
        with pytest.raises(DeadlineError):
            future.result(SECONDS)
    assert len(good.result(SECONDS).token_ids) == 8
    past = replace(request("past", (1,)), deadline_at=time.monotonic() - 1)
    with pytest.raises(DeadlineError):
        bench.engine.submit(past).result(SECONDS)


def test_close_completes_every_future(bench: Bench) -> None:
    bench.turnstile.gate.clear()
    futures = [bench.submit(f"r{n}", (n + 1,), max_new_tokens=200) for n in range(8)]
    bench.turnstile.reached.wait(SECONDS)
    closing = threading.Thread(target=bench.engine.close)
    closing.start()
    while not isinstance(bench.submit("late", (1,)).exception(SECONDS), EngineError):
        pass
    bench.turnstile.gate.set()
    closing.join(SECONDS)
    for future in futures:
        with pytest.raises(EngineError):
            future.result(SECONDS)


def test_any_thread_may_submit(bench: Bench) -> None:
    results: list[int] = []

    def work(name: int) -> None:
        for turn in range(5):
            done = bench.submit(f"{name}-{turn}", (name + 1, turn + 1)).result(SECONDS)
            results.append(len(done.token_ids))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert results == [8] * 40


def test_progress_shows_what_runs_and_what_waits(bench: Bench) -> None:
    bench.engine.warm()
    num_steps = bench.engine.progress().num_steps
    assert num_steps > 0
    bench.turnstile.reached.clear()
    bench.turnstile.gate.clear()
    futures = [bench.submit(f"r{n}", (n + 1,)) for n in range(7)]
    bench.turnstile.reached.wait(SECONDS)
    progress = bench.engine.progress()
    assert progress.num_running + progress.num_waiting == 7
    assert progress.seconds_in_step > 0
    bench.turnstile.gate.set()
    for future in futures:
        future.result(SECONDS)


def test_hung_step_is_reported_once(
    open_bench: Callable[..., Bench], capfd: pytest.CaptureFixture[str]
) -> None:
    hung = threading.Event()
    bench = open_bench(step_timeout_seconds=0.1, on_broken=hung.set)
    bench.turnstile.gate.clear()
    future = bench.submit("stuck", (1,))
    assert hung.wait(SECONDS)
    bench.turnstile.gate.set()
    future.result(SECONDS)
    assert "turnstile.py" in capfd.readouterr().err
