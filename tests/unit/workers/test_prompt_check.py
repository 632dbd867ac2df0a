"""Prompts that cannot fit are found at intake, to the token, where the model is at hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from jobs.errors import InputError, PromptTooLongError
from jobs.inference import Constraint, Prompt, RawPrompt, RequestSize, Sampling
from tests.plugins.kinds import TrialKind, TrialPayload, TrialSettings
from tests.tiny_model import write_tiny_model
from workers.engines.constraints import ConstraintUnsupportedError
from workers.models.install import add_model
from workers.models.sources import FolderSource
from workers.prompt_check import prompt_check
from workers.settings import Settings

pytestmark = pytest.mark.usefixtures("untried")

NUM_FRAME_TOKENS = 5
"""<|im_start|> user ... <|im_end|> <|im_start|> assistant, by the tiny model's template."""
MAX_NEW_TOKENS = 8
"""As the trial kind asks."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    models = tmp_path / "models"
    add_model("tiny", models, FolderSource(write_tiny_model(tmp_path / "source")))
    return Settings(models_dir=models, max_context_tokens=64)


def test_a_model_that_is_not_here_cannot_be_asked(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path)
    assert prompt_check(TrialKind(), TrialSettings(), "tiny", settings) is None


def text_of(num_words: int) -> TrialPayload:
    """Words of one token and one byte each, and the spaces between them."""
    return TrialPayload(text=" ".join("a" * num_words))


@pytest.mark.parametrize("num_words", [1, 20, 50, 51])
def test_a_prompt_that_fits_to_the_last_token_is_let_through(settings: Settings, num_words: int) -> None:
    check = prompt_check(TrialKind(), TrialSettings(), "tiny", settings)
    assert check is not None
    assert check([text_of(num_words)]) == [None]


@pytest.mark.parametrize("num_words", [52, 53, 500])
def test_a_prompt_one_token_too_long_is_refused_with_both_lengths(settings: Settings, num_words: int) -> None:
    check = prompt_check(TrialKind(), TrialSettings(), "tiny", settings)
    assert check is not None
    num_tokens = num_words + NUM_FRAME_TOKENS
    (refusal,) = check([text_of(num_words)])
    assert isinstance(refusal, PromptTooLongError)
    assert re.search(rf"{num_tokens} tokens .* {MAX_NEW_TOKENS} new .* 64", str(refusal))


class BoundedKind(TrialKind):
    """A trial kind that knows how long its prompts are, and says so."""

    def first_request(self, payload: TrialPayload, settings: BaseModel) -> tuple[Prompt, Sampling]:
        if payload.text == "unread":
            raise AssertionError("the prompt was made although its bound fits")
        return super().first_request(payload, settings)

    def first_request_size(self, payload: TrialPayload, settings: BaseModel) -> RequestSize:
        return RequestSize(("user",), 2 * len(payload.text), MAX_NEW_TOKENS)


def test_a_prompt_is_made_only_where_its_bound_does_not_fit(settings: Settings) -> None:
    check = prompt_check(BoundedKind(), TrialSettings(), "tiny", settings)
    assert check is not None
    results = check([TrialPayload(text="unread"), text_of(51), text_of(52), text_of(51), text_of(53)])
    assert [type(result) for result in results] == [
        type(None),
        type(None),
        PromptTooLongError,
        type(None),
        PromptTooLongError,
    ]


def test_the_frame_of_the_template_counts_for_a_short_prompt(settings: Settings) -> None:
    tight = settings.model_copy(update={"max_context_tokens": NUM_FRAME_TOKENS + MAX_NEW_TOKENS})
    check = prompt_check(TrialKind(), TrialSettings(), "tiny", tight)
    assert check is not None
    assert isinstance(check([text_of(1)])[0], PromptTooLongError)


class RawKind(TrialKind):
    """A trial kind whose prompts have no template."""

    def first_request(  # type: ignore[override]
        self, payload: TrialPayload, settings: BaseModel
    ) -> tuple[RawPrompt, Sampling]:
        return RawPrompt(payload.text), Sampling(max_new_tokens=MAX_NEW_TOKENS)


def test_raw_prompt_is_measured_without_the_frame_of_a_template(settings: Settings) -> None:
    check = prompt_check(RawKind(), TrialSettings(), "tiny", settings)
    assert check is not None
    fits, refusal = check([text_of(64 - MAX_NEW_TOKENS), text_of(65 - MAX_NEW_TOKENS)])
    assert fits is None
    assert isinstance(refusal, PromptTooLongError)
    assert re.search("57 tokens", str(refusal))


class ArguingKind(TrialKind):
    """A trial kind that gives the chat template an argument."""

    def first_request(self, payload: TrialPayload, settings: BaseModel) -> tuple[Prompt, Sampling]:
        prompt, sampling = super().first_request(payload, settings)
        return Prompt(prompt.messages, (("preface", "hello world " * 10),)), sampling


def test_template_arguments_count(settings: Settings) -> None:
    template = settings.models_folder / "tiny" / "chat_template.jinja"
    template.write_text("{{ preface }}" + template.read_text())
    check = prompt_check(ArguingKind(), TrialSettings(), "tiny", settings)
    assert check is not None
    fits, refusal = check([text_of(31), text_of(32)])
    assert fits is None
    assert isinstance(refusal, PromptTooLongError)


class ConstrainedKind(TrialKind):
    """A trial kind whose payloads are regular expressions for the texts."""

    def first_request(self, payload: TrialPayload, settings: BaseModel) -> tuple[Prompt, Sampling]:
        prompt, sampling = super().first_request(payload, settings)
        return prompt, replace(sampling, constraint=Constraint.of_regex(payload.text))


def test_constraint_that_cannot_be_served_is_refused_with_the_reason(settings: Settings) -> None:
    check = prompt_check(ConstrainedKind(), TrialSettings(), "tiny", settings)
    assert check is not None
    payloads = [TrialPayload(text=pattern) for pattern in ("a", "(?=a)", "a")]
    first, refusal, last = check(payloads)
    assert (first, last) == (None, None)
    assert isinstance(refusal, ConstraintUnsupportedError)
    assert "look-around" in str(refusal)


def test_constraint_that_the_models_tokens_cannot_satisfy_is_refused(settings: Settings) -> None:
    check = prompt_check(ConstrainedKind(), TrialSettings(), "tiny", settings)
    assert check is not None
    (refusal,) = check([TrialPayload(text="[0-9]")])
    assert isinstance(refusal, ConstraintUnsupportedError)


def test_machine_without_the_grammar_library_checks_no_constraint(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job then fails on its worker, with the same error."""
    monkeypatch.setattr("workers.prompt_check.is_installed", lambda: False)
    check = prompt_check(ConstrainedKind(), TrialSettings(), "tiny", settings)
    assert check is not None
    assert check([TrialPayload(text="(?=a)")]) == [None]


class BiasedKind(TrialKind):
    """A trial kind whose sampling follows from the payload's text."""

    def first_request(self, payload: TrialPayload, settings: BaseModel) -> tuple[Prompt, Sampling]:
        prompt, _ = super().first_request(payload, settings)
        token_id, minimum = map(int, payload.text.split())
        return prompt, Sampling(max_new_tokens=8, min_new_tokens=minimum, logit_bias=((token_id, 1.0),))


def test_sampling_that_the_engine_would_refuse_is_refused_at_intake(settings: Settings) -> None:
    check = prompt_check(BiasedKind(), TrialSettings(), "tiny", settings)
    assert check is not None
    good, unknown, long = check([TrialPayload(text=text) for text in ("7 8", "8 0", "0 9")])
    assert good is None
    assert isinstance(unknown, InputError)
    assert isinstance(long, InputError)
    assert unknown.code == long.code == "sampling_invalid"
    assert "token ids from 0 to 7" in str(unknown)
    assert "min_new_tokens is 9" in str(long)
