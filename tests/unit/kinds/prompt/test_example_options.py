"""The options of commands name the examples as an input, and the model that the workers need for them."""

from __future__ import annotations

from pathlib import Path

from kinds.prompt.commands import PromptOptions
from workers.settings import DEFAULT_EMBEDDER

EXAMPLES = Path("answered.csv")


def embedder(options: PromptOptions) -> object:
    return options.kind_settings("prompt").get("embedder")


def test_the_file_is_an_input_of_the_batch() -> None:
    assert PromptOptions(examples=EXAMPLES).named_inputs() == ["examples=answered.csv"]
    both = PromptOptions(examples=EXAMPLES, inputs=["other=a.csv"])
    assert both.named_inputs() == ["other=a.csv", "examples=answered.csv"]
    assert PromptOptions().named_inputs() == []


def test_workers_load_an_embedder_only_for_examples() -> None:
    assert embedder(PromptOptions(examples=EXAMPLES)) == DEFAULT_EMBEDDER
    assert embedder(PromptOptions(inputs=["examples=answered.csv"])) == DEFAULT_EMBEDDER
    assert embedder(PromptOptions(examples=EXAMPLES, embedder="other")) == "other"
    assert embedder(PromptOptions(examples=EXAMPLES, settings=["embedder=other"])) == "other"
    assert embedder(PromptOptions()) is None


def test_the_command_that_continues_the_batch_names_the_embedder() -> None:
    assert PromptOptions(examples=EXAMPLES).resume_options() == ("--embedder", DEFAULT_EMBEDDER)
    assert PromptOptions().resume_options() == ()


def test_the_number_of_examples_is_a_setting() -> None:
    assert PromptOptions(examples=EXAMPLES, num_examples=5).kind_settings("prompt")["num_examples"] == 5
