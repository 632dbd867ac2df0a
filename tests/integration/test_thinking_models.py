"""Models that think, on the real engine: what a kind gets, what the job fails with, what is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.inference import Completion, Constraint, FinishReason, Message, Prompt, RawPrompt, Sampling
from jobs.provenance import ThinkingFacts
from tests.fakes import MODEL, FakeEngine, fake_models
from tests.integration.test_inference import job
from tests.tiny_bigram import TEMPLATE, write_bigram_model
from workers.engine import Engine, EngineOptions
from workers.engines.transformers import open_engine
from workers.inference import JobInference
from workers.model_pool import ModelPool
from workers.thinking import Thinking, ThoughtUnfinishedError
from workers.tokenizer import load_tokenizer

WORDS = ("assistant", "<think>", "a", "plan}", "</think>", "Bread", "needs}", "time.")
SWITCH = " {% if enable_thinking is false %}<think> a plan} </think>{% endif %}"
SECONDS = 60.0
Ask = Callable[..., Completion]


class Bench:
    """One thinking model, and jobs that ask it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engines: list[Engine] = []
        self.inference: JobInference | None = None

    def ask(
        self,
        words: tuple[str, ...] = WORDS,
        *,
        sampling: Sampling,
        thinking: Thinking | None = None,
        template: str = TEMPLATE,
        special: tuple[str, ...] = (),
        prompt: Prompt | RawPrompt = Prompt((Message("user", "a plan}"),)),  # noqa: B008  immutable
    ) -> Completion:
        """What a kind gets for a prompt."""
        thinking = thinking or Thinking()
        write_bigram_model(self._folder, words, template=template, special=special)
        tokenizer = load_tokenizer(self._folder, is_thinking_requested=thinking.is_requested)
        engine = open_engine(self._folder, tokenizer, EngineOptions(num_slots=1, max_context_tokens=64))
        self._engines.append(engine)
        language_model = replace(
            fake_models(FakeEngine()).generator(MODEL),
            tokenizer=tokenizer,
            engine=engine,
            plan_thoughts=tokenizer.plan_thoughts,
            thinking=thinking,
            template_settings=tokenizer.template_settings,
        )
        self.inference = JobInference(
            job(MODEL), ModelPool([language_model]), deadline_at=time.monotonic() + SECONDS
        )
        return self.inference.generate(prompt, sampling)

    def close(self) -> None:
        for engine in self._engines:
            engine.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    opened = Bench(tmp_path)
    yield opened
    opened.close()


def test_kind_gets_the_answer_without_the_thought(bench: Bench) -> None:
    """Three tokens of the answer are allowed; the thought's four come on top."""
    done = bench.ask(template=TEMPLATE + SWITCH, thinking=Thinking(True), sampling=Sampling(max_new_tokens=3))
    assert done.text == "Bread needs} time."
    assert done.reasoning == "a plan}"
    assert done.usage.new_tokens == 7
    assert bench.inference is not None
    assert bench.inference.model_use().generations[0].thinking == ThinkingFacts(
        is_requested=True, template_settings=(("enable_thinking", True),), max_tokens=56
    )


def test_template_turns_thinking_off_unless_asked(bench: Bench) -> None:
    done = bench.ask(template=TEMPLATE + SWITCH, sampling=Sampling(max_new_tokens=3))
    assert (done.text, done.usage.new_tokens) == ("Bread needs} time.", 3)
    assert done.reasoning is None


def test_argument_of_a_prompt_turns_thinking_on(bench: Bench) -> None:
    arguments = (("enable_thinking", True),)
    prompt = Prompt((Message("user", "a plan}"),), arguments)
    done = bench.ask(template=TEMPLATE + SWITCH, sampling=Sampling(max_new_tokens=3), prompt=prompt)
    assert (done.text, done.reasoning) == ("Bread needs} time.", "a plan}")
    assert bench.inference is not None
    generation = bench.inference.model_use().generations[0]
    assert generation.template_arguments == arguments
    assert not generation.is_raw


def test_raw_prompt_is_continued_without_the_template(bench: Bench) -> None:
    prompt = RawPrompt("plan} </think> Bread")
    done = bench.ask(template=TEMPLATE + SWITCH, sampling=Sampling(max_new_tokens=9), prompt=prompt)
    assert (done.text, done.usage.prompt_tokens) == ("needs} time.", 3)
    assert bench.inference is not None
    (generation,) = bench.inference.model_use().generations
    assert generation.is_raw
    assert generation.thinking is not None
    assert generation.thinking.template_settings == ()


def test_tokens_of_a_thought_do_not_count_as_the_minimum(bench: Bench) -> None:
    """The answer has three words, after which the model would end; the thought has four tokens."""
    ended = bench.ask(special=("<think>", "</think>"), sampling=Sampling(max_new_tokens=6))
    assert (len(ended.token_ids), ended.finish_reason) == (8, FinishReason.STOP)
    sampling = Sampling(max_new_tokens=6, min_new_tokens=5)
    done = bench.ask(special=("<think>", "</think>"), sampling=sampling)
    assert done.token_ids[:7] == ended.token_ids[:7]
    assert ended.token_ids[7] not in done.token_ids[:9]


def test_stop_string_waits_for_the_minimum_of_the_answer(bench: Bench) -> None:
    sampling = Sampling(max_new_tokens=9, min_new_tokens=3, stop=("}", "me"))
    done = bench.ask(special=("<think>", "</think>"), sampling=sampling)
    assert (done.text, done.stop_string) == ("Bread needs} ti", "me")


def test_stop_string_counts_in_the_answer_alone(bench: Bench) -> None:
    sampling = Sampling(max_new_tokens=9, stop=("}",))
    done = bench.ask(special=("<think>", "</think>"), sampling=sampling)
    assert (done.text, done.stop_string, done.finish_reason) == ("Bread needs", "}", FinishReason.STOP)


def test_unfinished_thought_fails_the_job_by_name(bench: Bench) -> None:
    thinking = Thinking(max_tokens=1)
    with pytest.raises(ThoughtUnfinishedError, match="PRESSROOM_MAX_THOUGHT_TOKENS") as raised:
        bench.ask(thinking=thinking, sampling=Sampling(max_new_tokens=2))
    assert raised.value.code == "thought_unfinished"


def test_model_that_ends_within_its_thought_fails_by_name(bench: Bench) -> None:
    with pytest.raises(ThoughtUnfinishedError):
        bench.ask(("assistant", "<think>", "a", "plan}"), sampling=Sampling(max_new_tokens=9))


THINK = ("<think>", "</think>")
ANSWERS = Constraint.of_choice(["Bread", "time."])
"""A constraint that no thought of these models satisfies."""


def test_constraint_begins_after_the_thoughts(bench: Bench) -> None:
    done = bench.ask(special=THINK, sampling=Sampling(max_new_tokens=9, constraint=ANSWERS))
    assert (done.text, done.reasoning, done.finish_reason) == ("Bread", "a plan}", FinishReason.STOP)


def test_constraint_begins_at_once_where_the_template_turns_thinking_off(bench: Bench) -> None:
    sampling = Sampling(max_new_tokens=3, constraint=ANSWERS)
    done = bench.ask(template=TEMPLATE + SWITCH, sampling=sampling)
    assert (done.text, done.reasoning) == ("Bread", None)


def test_unfinished_thought_before_a_constraint_fails_the_job_by_name(bench: Bench) -> None:
    sampling = Sampling(max_new_tokens=2, constraint=ANSWERS)
    with pytest.raises(ThoughtUnfinishedError):
        bench.ask(special=THINK, thinking=Thinking(max_tokens=1), sampling=sampling)


def test_constraint_applies_from_the_start_to_a_model_that_is_not_known_to_think(bench: Bench) -> None:
    done = bench.ask(sampling=Sampling(max_new_tokens=9, constraint=ANSWERS))
    assert done.text in {"Bread", "time."}
    assert done.reasoning is None


def test_constraint_begins_with_the_final_channel(bench: Bench) -> None:
    words = ("assistant", "<|channel|>", "final", "<|message|>", "Bread", "needs}")
    sampling = Sampling(max_new_tokens=9, constraint=ANSWERS)
    assert bench.ask(words, special=CHANNELS, sampling=sampling).text == "Bread"


CHANNELS = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>")


def test_thought_on_a_channel_fails_by_name_if_no_answer_follows(bench: Bench) -> None:
    words = ("assistant", "<|channel|>", "analysis", "<|message|>", "a", "plan}")
    with pytest.raises(ThoughtUnfinishedError):
        bench.ask(words, special=CHANNELS, sampling=Sampling(max_new_tokens=9))


def test_answer_on_the_final_channel_is_the_text(bench: Bench) -> None:
    words = ("assistant", "<|channel|>", "final", "<|message|>", "Bread", "needs}")
    done = bench.ask(words, special=CHANNELS, sampling=Sampling(max_new_tokens=9))
    assert done.text == "Bread needs}"
