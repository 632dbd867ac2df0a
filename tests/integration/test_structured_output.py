"""Constraints in the batch: what parses, who is untouched, and how they go with other sampling parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchmarks.schemas import SCHEMAS, messages
from jobs.errors import InputError
from jobs.inference import Completion, Constraint, FinishReason, Sampling
from tests.tiny_llama import END_OF_TEXT_ID, write_tiny_llama
from tests.turnstile import BAD_TOKEN, Turnstile
from workers.engine import Engine, EngineOptions, Request
from workers.engines.batching import BatchingEngine, Executor
from workers.engines.constraints import ConstraintFailedError, ConstraintUnsupportedError, Matcher
from workers.engines.scripted import Script, ScriptedExecutor
from workers.engines.transformers import TransformersExecutor, open_engine
from workers.tokenizer import ChatTokenizer, load_tokenizer

OPTIONS = EngineOptions(num_slots=4, max_context_tokens=300, max_prefill_tokens=128)
SECONDS = 60.0
PROMPT = (10, 20, 30, 40, 50)
COLOURS = Constraint.of_choice(["red", "green", "reddish"])
DIGITS = Constraint.of_regex("[0-9]+")


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

    def submit(self, request_id: str, *, is_bad: bool = False, **sampling: Any) -> Future[Completion]:
        prompt = (BAD_TOKEN, *PROMPT) if is_bad else PROMPT
        values: dict[str, Any] = {"max_new_tokens": 24, **sampling}
        return self.engine.submit(
            Request(request_id=request_id, prompt_ids=prompt, sampling=Sampling(**values))
        )

    def ask(self, **sampling: Any) -> Completion:
        return self.submit("r", **sampling).result(SECONDS)


@pytest.fixture(params=["scripted", "transformers"])
def bench(request: pytest.FixtureRequest, tiny_folder: Path, tokenizer: ChatTokenizer) -> Iterator[Bench]:
    executor: Executor = (
        ScriptedExecutor(tokenizer, OPTIONS, Script())
        if request.param == "scripted"
        else TransformersExecutor(tiny_folder, OPTIONS)
    )
    opened = Bench(Turnstile(executor), tokenizer, OPTIONS)
    yield opened
    opened.turnstile.gate.set()
    opened.engine.close()


@pytest.fixture
def tiny(tiny_folder: Path, tokenizer: ChatTokenizer) -> Iterator[Bench]:
    opened = Bench(Turnstile(TransformersExecutor(tiny_folder, OPTIONS)), tokenizer, OPTIONS)
    yield opened
    opened.turnstile.gate.set()
    opened.engine.close()


# Every engine


def test_text_is_one_of_the_choices_and_then_ends(bench: Bench) -> None:
    done = bench.ask(constraint=COLOURS, temperature=1.0, seed=3)
    assert done.text in {"red", "green", "reddish"}
    assert done.finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    "name", ["a mood of three", "a year", "patterns", "a cat or a dog", "two to four tags"]
)
def test_text_satisfies_its_schema(bench: Bench, name: str) -> None:
    done = bench.ask(constraint=Constraint.of_schema(SCHEMAS[name]), max_new_tokens=200)
    assert done.finish_reason is FinishReason.STOP
    jsonschema.validate(json.loads(done.text), SCHEMAS[name])


def test_text_cut_by_its_length_says_so(bench: Bench) -> None:
    done = bench.ask(constraint=Constraint.of_regex("x{100}"), max_new_tokens=5)
    assert (done.text, done.finish_reason) == ("xxxxx", FinishReason.LENGTH)


def test_text_that_is_complete_at_its_length_has_ended(bench: Bench) -> None:
    done = bench.ask(constraint=Constraint.of_regex("x{5}"), max_new_tokens=5)
    assert (done.text, done.finish_reason) == ("xxxxx", FinishReason.STOP)


def test_constraint_that_is_not_supported_fails_its_request_alone(bench: Bench) -> None:
    bad = bench.submit("bad", constraint=Constraint.of_schema({"not": {}}))
    good = bench.submit("good", constraint=COLOURS)
    with pytest.raises(ConstraintUnsupportedError, match="'not'"):
        bad.result(SECONDS)
    assert good.result(SECONDS).finish_reason is FinishReason.STOP


def test_end_of_text_cannot_be_ignored_under_a_constraint(bench: Bench) -> None:
    with pytest.raises(InputError, match="ignore_end_of_text"):
        bench.ask(constraint=COLOURS, ignore_end_of_text=True)


def test_request_can_be_cancelled_while_its_constraint_is_compiled(bench: Bench) -> None:
    future = bench.submit("r", constraint=Constraint.of_regex("(a|b){1,500}c{1,500}"))
    bench.engine.cancel("r")
    assert future.cancelled() or future.done()
    assert bench.ask(constraint=COLOURS).finish_reason is FinishReason.STOP


# The real engine


def test_rows_without_a_constraint_are_untouched(tiny: Bench) -> None:
    """The same tokens alone and beside constrained rows, greedy and drawn."""
    settings: list[dict[str, Any]] = [{"temperature": 0.0}, {"temperature": 1.0, "seed": 5, "top_p": 0.9}]
    alone = [tiny.ask(ignore_end_of_text=True, **each).token_ids for each in settings]
    tiny.turnstile.gate.clear()
    together = [tiny.submit(f"{i}", ignore_end_of_text=True, **each) for i, each in enumerate(settings)] + [
        tiny.submit(f"c{i}", constraint=DIGITS, temperature=1.0, seed=i) for i in range(2)
    ]
    tiny.turnstile.gate.set()
    assert [future.result(SECONDS).token_ids for future in together[:2]] == alone
    assert all(future.result(SECONDS).text.isdigit() for future in together[2:])


def test_constrained_row_has_the_same_tokens_alone_and_in_a_batch(tiny: Bench) -> None:
    schema = Constraint.of_schema(SCHEMAS["two to four tags"])
    settings: list[dict[str, Any]] = [
        {"temperature": 1.0, "seed": seed, "constraint": schema} for seed in range(4)
    ]
    alone = [tiny.ask(**each).token_ids for each in settings]
    together = [tiny.submit(str(i), **each) for i, each in enumerate(settings)]
    assert [future.result(SECONDS).token_ids for future in together] == alone


def test_repeated_steps_advance_no_matcher_twice(tiny: Bench) -> None:
    """A bad row makes every batch that contains it run again in halves."""
    expected = tiny.ask(constraint=DIGITS).token_ids
    tiny.turnstile.fails = True
    tiny.turnstile.gate.clear()
    rows = [tiny.submit(f"{i}", constraint=DIGITS) for i in range(3)]
    bad = tiny.submit("bad", is_bad=True)
    tiny.turnstile.gate.set()
    assert bad.exception(SECONDS) is not None
    assert [row.result(SECONDS).token_ids for row in rows] == [expected] * 3


def test_memory_shortage_advances_no_matcher_twice(tiny: Bench) -> None:
    expected = tiny.ask(constraint=DIGITS).token_ids
    tiny.turnstile.max_rows = 1
    rows = [tiny.submit(f"{i}", constraint=DIGITS) for i in range(3)]
    assert [row.result(SECONDS).token_ids for row in rows] == [expected] * 3


def test_matcher_that_fails_ends_its_row_alone(tiny: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = Matcher.fill

    def fail_after_two(self: Matcher, mask: object) -> None:
        if len(self.text) == 2:
            raise ConstraintFailedError("the grammar is exhausted")
        fill(self, mask)  # type: ignore[arg-type]

    other = tiny.ask(max_new_tokens=8).token_ids
    monkeypatch.setattr(Matcher, "fill", fail_after_two)
    tiny.turnstile.gate.clear()
    bad, good = (
        tiny.submit("bad", constraint=Constraint.of_regex("[0-9]{9}")),
        tiny.submit("good", max_new_tokens=8),
    )
    tiny.turnstile.gate.set()
    with pytest.raises(ConstraintFailedError, match="exhausted") as raised:
        bad.result(SECONDS)
    assert raised.value.code == "constraint_failed"
    assert good.result(SECONDS).token_ids == other


def test_other_parameters_choose_among_the_tokens_that_may_come_next(tiny: Bench) -> None:
    """The most likely tokens by far are letters, but neither top-k nor biases may exclude the digits."""
    letters = tuple((token_id, 100.0) for token_id in range(97, 123))
    done = tiny.ask(
        constraint=Constraint.of_regex("[0-9]{6}"),
        temperature=1.0,
        top_k=1,
        top_p=0.5,
        min_p=0.5,
        repetition_penalty=1.5,
        frequency_penalty=2.0,
        presence_penalty=2.0,
        logit_bias=letters,
        num_logprobs=2,
    )
    assert len(done.text) == 6
    assert done.text.isdigit()
    assert done.logprobs is not None
    assert [each.token_id for each in done.logprobs] == list(done.token_ids)


def test_bias_against_every_token_that_may_come_next_does_not_stop_the_text(tiny: Bench) -> None:
    done = tiny.ask(constraint=Constraint.of_regex("7{4}"), logit_bias=((ord("7"), -100.0),))
    assert done.text == "7777"


def test_minimum_length_defers_the_end_where_the_text_can_go_on(tiny: Bench) -> None:
    end = ((END_OF_TEXT_ID, 100.0),)
    assert len(tiny.ask(constraint=DIGITS, logit_bias=end).text) == 1
    assert len(tiny.ask(constraint=DIGITS, logit_bias=end, min_new_tokens=9).text) == 9


def test_minimum_length_does_not_keep_a_text_from_its_only_end(tiny: Bench) -> None:
    done = tiny.ask(constraint=COLOURS, min_new_tokens=20)
    assert done.text in {"red", "green", "reddish"}
    assert done.finish_reason is FinishReason.STOP


def test_stop_string_ends_a_text_only_where_it_satisfies_its_constraint(tiny: Bench) -> None:
    pairs = Constraint.of_regex("(ab)+c")
    never = tiny.ask(constraint=pairs, stop=("b",), logit_bias=((ord("c"), 100.0),))
    assert (never.text, never.stop_string) == ("abc", None)
    numbers = Constraint.of_regex("[0-9]{2}(;[0-9]+)?")
    ended = tiny.ask(constraint=numbers, stop=(";",), logit_bias=((ord(";"), 100.0),))
    assert (len(ended.text), ended.stop_string, ended.finish_reason) == (2, ";", FinishReason.STOP)
    assert ended.text.isdigit()


def test_slow_constraint_does_not_stop_other_rows(tiny: Bench) -> None:
    slow = tiny.submit("slow", constraint=Constraint.of_choice([f"choice number {i}" for i in range(9000)]))
    assert tiny.submit("fast", max_new_tokens=2).result(SECONDS).usage.new_tokens <= 2
    assert slow.result(SECONDS).text.startswith("choice")


# The default model


@pytest.fixture(scope="module")
def default_engine(model_folder: Path) -> Iterator[tuple[Engine, ChatTokenizer]]:
    tokenizer = load_tokenizer(model_folder)
    engine = open_engine(model_folder, tokenizer, EngineOptions(num_slots=20, max_context_tokens=256))
    yield engine, tokenizer
    engine.close()


def test_texts_of_the_default_model_validate_under_twenty_schemas(
    default_engine: tuple[Engine, ChatTokenizer],
) -> None:
    engine, tokenizer = default_engine
    futures = {
        name: engine.submit(
            Request(
                request_id=name,
                prompt_ids=tokenizer.encode_chat(messages(name)),
                sampling=Sampling(
                    max_new_tokens=100, temperature=1.0, seed=seed, constraint=Constraint.of_schema(schema)
                ),
            )
        )
        for seed, (name, schema) in enumerate(SCHEMAS.items())
    }
    ended = 0
    for name, future in futures.items():
        done = future.result(SECONDS * 4)
        if done.finish_reason is FinishReason.STOP:
            ended += 1
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            jsonschema.validate(json.loads(done.text), SCHEMAS[name], format_checker=checker)
        else:
            assert done.usage.new_tokens == 100
    assert ended >= 15
