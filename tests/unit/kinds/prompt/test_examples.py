"""Rows with known answers become turns before a row's own turn: the nearest ones, and only those that fit."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import EngineError, InputError, PromptTooLongError
from jobs.inference import Completion, FinishReason, Inference, Message, Prompt, Sampling, Usage
from jobs.kind import Context, Result
from kinds.prompt.examples import Example, ExampleInvalidError, example_bytes, read_examples
from kinds.prompt.kind import PromptKind
from kinds.prompt.nearest import BLOCK_EXAMPLES, ExampleSet
from kinds.prompt.payload import PromptPayload, PromptSettings
from kinds.prompt.schema import schema_fields
from tests.unit.jobs.replies import JobContext

TEMPLATE = "About {{ name }}."
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "colour": {"type": "string", "enum": ["red", "blue"]},
            "stars": {"type": "integer"},
            "note": {"type": ["string", "null"]},
            "new": {"type": "boolean"},
        },
        "required": ["colour", "stars"],
    }
)
SHA256 = "ab" * 32


class Model:
    """Embeds a text as its counts of a, b and c; answers prompts of at most `max_words` words."""

    def __init__(self, max_words: int = 1_000) -> None:
        self.max_words = max_words
        self.prompts: list[Prompt] = []
        self.embedded: list[str] = []
        self.is_broken = False

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> tuple[tuple[float, ...], ...]:
        assert model == "encoder"
        if self.is_broken:
            raise EngineError("the engine is broken")
        if any("refused" in text for text in texts):
            raise InputError("a text is refused")
        self.embedded += texts
        return tuple(_unit([float(text.count(letter)) for letter in "abc"]) for text in texts)

    def generate(self, prompt: Prompt, sampling: Sampling) -> Completion:
        num_words = sum(len(message.content.split()) for message in prompt.messages)
        if num_words > self.max_words:
            raise PromptTooLongError(
                num_words, sampling.max_new_tokens, self.max_words + sampling.max_new_tokens
            )
        self.prompts.append(prompt)
        return Completion(
            text="yes", token_ids=(), finish_reason=FinishReason.STOP, usage=Usage(new_tokens=1)
        )


def _unit(numbers: list[float]) -> tuple[float, ...]:
    length = sum(number * number for number in numbers) ** 0.5
    return tuple(number / length for number in numbers) if length else (0.0,) * len(numbers)


class Shelf:
    """Implements jobs.kind.Resources.load for one resource, which it parses once."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._body = example_bytes(examples)
        self._parsed: dict[object, object] = {}

    def load(self, sha256: str, parse: Callable[[bytes], object]) -> object:
        assert sha256 == SHA256
        if parse not in self._parsed:
            self._parsed[parse] = parse(self._body)
        return self._parsed[parse]


@dataclass(frozen=True)
class ShelfContext(JobContext):
    resources: Shelf | None = None


def settings(**values: object) -> PromptSettings:
    return PromptSettings.model_validate({"template": TEMPLATE, **values})


def example(name: str, turn: str | None = None, answer: str = "yes") -> Example:
    return Example(name=name, turn=f"About {name}." if turn is None else turn, answer=answer)


def run(model: Model, row: dict[str, object], examples: Sequence[Example], **values: object) -> Result:
    own = {
        "template": "{% block system %}Be kind.{% endblock %}{% block user %}About {{ name }}.{% endblock %}",
        "examples_sha256": SHA256,
        "embedder": "encoder",
        **values,
    }
    context = ShelfContext(cast("Inference", model), settings=own, resources=Shelf(examples))
    return PromptKind().run(PromptPayload.model_validate({"row": row}), cast("Context", context))


def nearest(model: Model, examples: Sequence[Example], turn: str, number: int = 2) -> list[str]:
    chosen = ExampleSet(examples).nearest(turn, number, cast("Inference", model), "encoder")
    return [each.name for each in chosen]


def test_an_example_is_the_turn_of_its_row_and_the_answer_in_the_new_column() -> None:
    own = Example.of("e1", {"name": "lamps", "label": " good \n"}, settings(into="label"))
    assert own == Example(name="e1", turn="About lamps.", answer="good")
    assert own.messages() == (Message("user", "About lamps."), Message("assistant", "good"))
    assert own.parent().name == "e1"


def test_the_system_turn_is_no_part_of_an_example() -> None:
    own = settings(system="Speak {{ language }}.", into="label")
    assert (
        Example.of("e1", {"name": "lamps", "language": "Dutch", "label": "good"}, own).turn == "About lamps."
    )


def test_digests_differ_with_the_turn_and_with_the_answer() -> None:
    digests = {
        example("a").parent().sha256,
        example("a", answer="no").parent().sha256,
        example("a", turn="About b.").parent().sha256,
    }
    assert len(digests) == 3
    assert example("a").parent().sha256 == example("b", turn="About a.").parent().sha256


def test_fields_of_a_schema_are_json_in_its_order_with_its_types() -> None:
    row: dict[str, object] = {"new": "true", "stars": "4", "colour": "red", "name": "lamps", "note": ""}
    answer = Example.of("e1", row, settings(json_schema=SCHEMA)).answer
    assert answer == '{"colour": "red", "stars": 4, "note": null, "new": true}'
    row = {"new": "", "stars": 4, "colour": "blue", "name": "lamps", "note": "7"}
    answer = Example.of("e1", row, settings(json_schema=SCHEMA)).answer
    assert answer == '{"colour": "blue", "stars": 4, "note": "7"}'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stars": ""}, "column 'stars' is empty, but the schema requires this field"),
        ({"stars": "four"}, "column 'stars' has a value that the schema does not allow"),
        ({"stars": "4.5"}, "column 'stars' has a value that the schema does not allow"),
        ({"stars": True}, "column 'stars' has a value that the schema does not allow"),
        ({"colour": "green"}, "column 'colour' has a value that the schema does not allow"),
        ({"new": "1"}, "column 'new' has a value that the schema does not allow"),
    ],
)
def test_fields_that_the_schema_does_not_allow_are_refused_by_column(
    changes: dict[str, object], message: str
) -> None:
    row = {"name": "lamps", "colour": "red", "stars": 4, **changes}
    with pytest.raises(ExampleInvalidError, match=message):
        Example.of("e1", row, settings(json_schema=SCHEMA))


@pytest.mark.parametrize(
    ("cell", "values", "message"),
    [
        ("", {}, "column 'label' is empty"),
        ("  ", {}, "column 'label' is empty"),
        (None, {}, "column 'label' is empty"),
        (["a"], {}, "column 'label' is no text"),
        ("maybe", {"choice": ["yes", "no"]}, "'maybe' in column 'label' is none of the choices"),
    ],
)
def test_answers_that_cannot_be_answers_are_refused(
    cell: object, values: dict[str, object], message: str
) -> None:
    with pytest.raises(ExampleInvalidError, match=message):
        Example.of("e1", {"name": "lamps", "label": cell}, settings(into="label", **values))


def test_a_schema_with_optional_fields_only_needs_one_of_them() -> None:
    own = settings(json_schema='{"type": "object", "properties": {"a": {}, "b": {}}}')
    with pytest.raises(ExampleInvalidError, match="columns with the answer are empty"):
        Example.of("e1", {"name": "lamps", "a": "", "b": None}, own)
    assert Example.of("e1", {"name": "lamps", "a": "", "b": 5}, own).answer == '{"a": null, "b": 5}'


def test_fields_know_their_types_and_choices() -> None:
    colour, stars, note, new = schema_fields(SCHEMA)
    assert (colour.is_required, note.is_required) == (True, False)
    assert colour.allows("red")
    assert not colour.allows(1)
    assert stars.allows(4)
    assert not stars.allows(True)
    assert not new.allows(1)
    assert note.allows(None)


@given(st.lists(st.builds(Example, name=st.text(), turn=st.text(), answer=st.text()), max_size=5))
def test_examples_are_read_as_they_were_written(examples: list[Example]) -> None:
    assert list(read_examples(example_bytes(examples))) == examples


def test_the_nearest_example_comes_last() -> None:
    examples = [example("aab"), example("aaa"), example("ccc"), example("abb")]
    assert nearest(Model(), examples, "aa", 3) == ["abb", "aab", "aaa"]


def test_of_equally_near_examples_the_first_are_taken() -> None:
    examples = [example(f"{number}", turn="a" * (number + 2)) for number in range(5)]
    assert nearest(Model(), examples, "a") == ["1", "0"]


def test_a_row_is_not_its_own_example() -> None:
    assert nearest(Model(), [example("a"), example("b"), example("ab")], "About a.") == ["b", "ab"]
    assert nearest(Model(), [example("a")], "About a.") == []


def test_examples_that_cannot_be_embedded_are_never_chosen() -> None:
    examples = [example("refused a"), example("b"), example("a")]
    assert nearest(Model(), examples, "About aa.", 3) == ["b", "a"]
    assert nearest(Model(), [example("refused")], "About aa.") == []


def test_a_row_that_cannot_be_embedded_is_an_error() -> None:
    with pytest.raises(InputError, match="no examples can be found for this row"):
        nearest(Model(), [example("a")], "refused")


def test_examples_are_embedded_once_by_many_threads() -> None:
    model, examples = Model(), [example(f"a{'b' * number}") for number in range(BLOCK_EXAMPLES + 5)]
    own, start = ExampleSet(examples), threading.Barrier(8)

    def job(number: int) -> tuple[Example, ...]:
        start.wait()
        return own.nearest(f"a row {number}", 2, cast("Inference", model), "encoder")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(job, range(8)))
    assert sorted(model.embedded) == sorted(
        [each.turn for each in examples] + [f"a row {n}" for n in range(8)]
    )


def test_examples_are_embedded_by_the_next_job_if_the_first_one_fails() -> None:
    model, own = Model(), ExampleSet([example("a")])
    model.is_broken = True
    with pytest.raises(EngineError):
        own.nearest("b", 1, cast("Inference", model), "encoder")
    model.is_broken = False
    assert own.nearest("b", 1, cast("Inference", model), "encoder") == (example("a"),)


def test_examples_stand_between_the_system_turn_and_the_row() -> None:
    model = Model()
    result = run(
        model, {"name": "aa"}, [example("c", answer="no"), example("ab"), example("a")], num_examples=2
    )
    assert [(each.role, each.content) for each in model.prompts[0].messages] == [
        ("system", "Be kind."),
        ("user", "About ab."),
        ("assistant", "yes"),
        ("user", "About a."),
        ("assistant", "yes"),
        ("user", "About aa."),
    ]
    assert result.metrics == {"num_texts": 1, "examples": ["ab", "a"]}
    assert list(result.parents) == [example("ab").parent(), example("a").parent()]


def test_all_texts_of_a_row_have_the_same_examples() -> None:
    model = Model()
    run(model, {"name": "aa"}, [example("a")], n=2, temperature=1)
    assert model.prompts[0] == model.prompts[1]
    assert len(model.prompts[0].messages) == 4


def test_a_row_uses_fewer_examples_if_they_do_not_fit_and_says_so() -> None:
    examples = [example("ab"), example("a", answer="yes " * 5), example("aab")]
    result = run(Model(max_words=13), {"name": "aa"}, examples)
    assert result.metrics == {"num_texts": 1, "examples": ["a"], "num_examples_left_out": 2}
    assert list(result.parents) == [examples[1].parent()]
    alone = run(Model(max_words=4), {"name": "aa"}, examples)
    assert alone.metrics == {"num_texts": 1, "num_examples_left_out": 3}
    with pytest.raises(PromptTooLongError):
        run(Model(max_words=3), {"name": "aa"}, examples)


def test_examples_are_left_out_before_a_column_is_cut() -> None:
    model = Model(max_words=12)
    result = run(model, {"name": "aa " * 40}, [example("a"), example("b")], truncate="end")
    assert result.metrics == {"num_texts": 1, "num_examples_left_out": 2}
    assert [message.role for message in model.prompts[0].messages] == ["system", "user"]
    assert "truncated" in result.artifacts[1].body.decode()


def test_workers_need_the_embedder_only_for_batches_with_examples() -> None:
    kind = PromptKind()
    assert kind.models("small", settings(), "generate") == ("small",)
    assert kind.models("small", settings(embedder="encoder"), "generate") == ("small", "encoder")
