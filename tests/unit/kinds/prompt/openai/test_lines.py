"""Lines of OpenAI batch files: what is served, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.inference import Constraint, ConstraintForm, Message, Prompt, RawPrompt, Sampling
from kinds.prompt.openai.lines import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MAX_LINE_SEED,
    LineFault,
    LineRequest,
    ModelMap,
    is_batch_line,
    read_request,
)

TASKS = {"small": "generate", "vectors": "embed"}
MODELS = ModelMap({"gpt-4o-mini": "small", "text-embedding-3-small": "vectors"}, tuple(TASKS), TASKS.get)

TURN = {"role": "user", "content": "Hello"}
BODIES: dict[str, dict[str, object]] = {
    CHAT: {"model": "gpt-4o-mini", "messages": [TURN]},
    COMPLETIONS: {"model": "gpt-4o-mini", "prompt": "Once"},
    EMBEDDINGS: {"model": "text-embedding-3-small", "input": "Bread"},
}


def line(url: str = CHAT, /, **changes: object) -> dict[str, object]:
    return {"custom_id": "a", "method": "POST", "url": url, "body": {**BODIES[url], **changes}}


def read(fields: Mapping[str, object]) -> LineRequest:
    """Read a line, and store and load it as a job does."""
    return LineRequest.model_validate_json(read_request(fields, MODELS).model_dump_json())


def fault_of(fields: Mapping[str, object]) -> LineFault:
    with pytest.raises(LineFault) as caught:
        read_request(fields, MODELS)
    return caught.value


def sampling_of(url: str = CHAT, /, number: int = 0, **changes: object) -> Sampling:
    return read(line(url, **changes)).text_body().sampling(number, max_new_tokens=256, seed=7)


def test_a_chat_has_openais_defaults() -> None:
    request = read(line())
    assert (request.custom_id, request.url, request.model) == ("a", CHAT, "small")
    assert request.text_body().prompts == (Prompt((Message("user", "Hello"),)),)
    assert sampling_of() == Sampling(max_new_tokens=256, temperature=1.0, top_p=1.0, seed=7)


def test_each_served_parameter_of_a_chat_reaches_the_engine() -> None:
    served = sampling_of(
        CHAT,
        temperature=0.5,
        top_p=0.9,
        max_completion_tokens=30,
        stop=["\n", "END"],
        seed=11,
        presence_penalty=0.5,
        frequency_penalty=-0.25,
        logit_bias={"5": -100, "17": 2.5},
        logprobs=True,
        top_logprobs=3,
        response_format={"type": "json_object"},
        user="customer-7",
        stream=False,
    )
    assert served == Sampling(
        max_new_tokens=30,
        temperature=0.5,
        top_p=0.9,
        stop=("\n", "END"),
        seed=11,
        presence_penalty=0.5,
        frequency_penalty=-0.25,
        logit_bias=((5, -100.0), (17, 2.5)),
        num_logprobs=3,
        constraint=Constraint(ConstraintForm.JSON_OBJECT, ""),
    )


def test_completions_continue_raw_prompts_with_16_tokens_by_default() -> None:
    body = read(line(COMPLETIONS, prompt=["One", "Two"], n=3, logprobs=2)).text_body()
    assert body.prompts == (RawPrompt("One"), RawPrompt("Two"))
    assert (body.n, body.num_choices, body.num_logprobs) == (3, 6, 2)
    assert sampling_of(COMPLETIONS).max_new_tokens == 16
    assert sampling_of(COMPLETIONS, max_tokens=5).max_new_tokens == 5


def test_embeddings_keep_their_texts_and_format() -> None:
    body = read(line(EMBEDDINGS, input=["a", "b"], encoding_format="base64", dimensions=8)).embedding_body()
    assert (body.input, body.encoding_format, body.dimensions) == (("a", "b"), "base64", 8)
    assert read(line(EMBEDDINGS)).model == "vectors"


def test_parts_of_a_content_are_joined_line_by_line() -> None:
    content = [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]
    turns = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": content}]
    (prompt,) = read(line(messages=turns)).text_body().prompts
    assert prompt == Prompt((Message("system", "Be brief."), Message("user", "One\nTwo")))


def test_logprobs_without_top_logprobs_are_those_of_the_tokens_alone() -> None:
    assert sampling_of(logprobs=True).num_logprobs == 0
    assert sampling_of(logprobs=False).num_logprobs is None


def test_each_choice_has_a_seed_of_its_own() -> None:
    assert [sampling_of(CHAT, number, n=3).seed for number in range(3)] == [7, 8, 9]
    assert sampling_of(CHAT, 1, seed=MAX_LINE_SEED).seed == 0


def test_a_schema_keeps_the_order_of_its_properties() -> None:
    schema = {"type": "object", "properties": {"zebra": {"type": "string"}, "ant": {"type": "null"}}}
    form = {"type": "json_schema", "json_schema": {"name": "animals", "schema": schema, "strict": True}}
    constraint = sampling_of(CHAT, response_format=form).constraint
    assert constraint is not None
    assert constraint.form is ConstraintForm.JSON_SCHEMA
    assert list(json.loads(constraint.source)["properties"]) == ["zebra", "ant"]


def test_members_that_are_null_count_as_absent() -> None:
    turn = {**TURN, "refusal": None, "tool_calls": None}
    assert sampling_of(CHAT, messages=[turn], tools=None, temperature=None, seed=None) == sampling_of()


NOT_SERVED = {
    CHAT: (
        *("audio", "function_call", "functions", "metadata", "modalities", "parallel_tool_calls"),
        *("prediction", "prompt_cache_key", "reasoning_effort", "safety_identifier", "service_tier", "store"),
        *("stream_options", "tool_choice", "tools", "verbosity", "web_search_options", "top_k", "prompt"),
    ),
    COMPLETIONS: ("best_of", "echo", "suffix", "stream_options", "response_format", "max_completion_tokens"),
    EMBEDDINGS: ("input_type", "temperature"),
}


@pytest.mark.parametrize(
    ("url", "name"), [(url, name) for url, names in NOT_SERVED.items() for name in names]
)
def test_a_parameter_that_is_not_served_is_refused_by_name(url: str, name: str) -> None:
    fault = fault_of(line(url, **{name: "x"}))
    assert (fault.code, fault.parameter) == ("unsupported_parameter", name)
    assert name in str(fault)


@pytest.mark.parametrize(
    ("url", "name", "value", "parameter"),
    [
        (CHAT, "temperature", 2.1, "temperature"),
        (CHAT, "temperature", "0.5", "temperature"),
        (CHAT, "temperature", True, "temperature"),
        (CHAT, "top_p", 0, "top_p"),
        (CHAT, "n", 129, "n"),
        (CHAT, "n", 1.5, "n"),
        (CHAT, "max_tokens", 0, "max_tokens"),
        (CHAT, "seed", -1, "seed"),
        (CHAT, "seed", 2**53, "seed"),
        (CHAT, "stop", ["a", "b", "c", "d", "e"], "stop"),
        (CHAT, "stop", "", "stop"),
        (CHAT, "stream", True, "stream"),
        (CHAT, "presence_penalty", 3, "presence_penalty"),
        (CHAT, "frequency_penalty", -3, "frequency_penalty"),
        (CHAT, "logit_bias", {"bread": 1}, "logit_bias"),
        (CHAT, "logit_bias", {"-1": 1}, "logit_bias"),
        (CHAT, "logit_bias", {"5": 101}, "logit_bias.5"),
        (CHAT, "top_logprobs", 2, "top_logprobs"),
        (CHAT, "messages", [], "messages"),
        (CHAT, "messages", [{"role": "tool", "content": "x"}], "messages.0.role"),
        (CHAT, "messages", [{"role": "user", "content": []}], "messages.0.content"),
        (CHAT, "messages", [{"role": "user", "content": [{"type": "image_url"}]}], "messages.0.content"),
        (CHAT, "response_format", {"type": "grammar"}, "response_format.type"),
        (CHAT, "response_format", {"type": "json_schema"}, "response_format"),
        (CHAT, "model", "", "model"),
        (COMPLETIONS, "prompt", [1, 2], "prompt"),
        (COMPLETIONS, "prompt", [], "prompt"),
        (COMPLETIONS, "logprobs", 6, "logprobs"),
        (COMPLETIONS, "logprobs", True, "logprobs"),
        (EMBEDDINGS, "input", [[1, 2]], "input"),
        (EMBEDDINGS, "input", ["a", ""], "input"),
        (EMBEDDINGS, "input", ["a"] * 2049, "input"),
        (EMBEDDINGS, "encoding_format", "int8", "encoding_format"),
    ],
)
def test_a_value_that_is_not_served_is_refused_with_its_place(
    url: str, name: str, value: object, parameter: str
) -> None:
    fault = fault_of(line(url, **{name: value}))
    assert (fault.code, fault.parameter) == ("invalid_value", parameter)


@pytest.mark.parametrize(
    ("messages", "parameter"),
    [
        ([{**TURN, "name": "Ann"}], "messages.0.name"),
        ([TURN, {"role": "assistant", "content": "x", "tool_calls": []}], "messages.1.tool_calls"),
    ],
)
def test_a_member_of_a_message_that_is_not_served_is_refused(messages: object, parameter: str) -> None:
    fault = fault_of(line(messages=messages))
    assert (fault.code, fault.parameter) == ("unsupported_parameter", parameter)


def test_both_limits_of_tokens_at_once_are_refused() -> None:
    fault = fault_of(line(max_tokens=5, max_completion_tokens=6))
    assert fault.parameter == "max_completion_tokens"


def test_too_many_texts_of_all_prompts_together_are_refused() -> None:
    fault = fault_of(line(COMPLETIONS, prompt=["a", "b"], n=65))
    assert (fault.code, fault.parameter) == ("invalid_value", "n")


@pytest.mark.parametrize("url", list(BODIES))
def test_a_missing_parameter_is_named(url: str) -> None:
    for name in BODIES[url]:
        body = {other: value for other, value in BODIES[url].items() if other != name}
        fault = fault_of({**line(url), "body": body})
        assert (fault.code, fault.parameter) == ("missing_required_parameter", name)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"custom_id": ""}, "invalid_custom_id"),
        ({"custom_id": 5}, "invalid_custom_id"),
        ({"method": "GET"}, "invalid_method"),
        ({"url": "/v1/responses"}, "invalid_url"),
        ({"url": None}, "invalid_url"),
        ({"body": []}, "missing_required_parameter"),
        ({"priority": 1}, "unsupported_parameter"),
    ],
)
def test_a_faulty_member_of_a_line_is_refused(changes: dict[str, object], code: str) -> None:
    assert fault_of({**line(), **changes}).code == code


def test_a_model_of_the_profile_needs_no_map_and_others_are_refused() -> None:
    assert read(line(model="small")).model == "small"
    fault = fault_of(line(model="gpt-5"))
    assert (fault.code, fault.parameter) == ("model_not_found", "model")
    assert "'gpt-5'" in str(fault)
    assert "small, vectors" in str(fault)


def test_a_model_for_another_task_is_refused() -> None:
    assert "cannot generate" in str(fault_of(line(model="text-embedding-3-small")))
    assert "cannot embed" in str(fault_of(line(EMBEDDINGS, model="gpt-4o-mini")))


def test_a_fault_quotes_no_secret() -> None:
    fault = fault_of(line(model="password=hunter2xyz"))
    assert "hunter2" not in str(fault)


def test_batch_files_are_recognised_by_their_lines() -> None:
    assert is_batch_line(line())
    assert not is_batch_line({**line(), "body": "a text"})
    assert not is_batch_line({"custom_id": "a", "body": {}})


numbers = st.floats(min_value=-2, max_value=2)
chats = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.just("user"), "content": st.text()}), min_size=1
        )
    },
    optional={
        "temperature": st.floats(min_value=0, max_value=2) | st.integers(0, 2),
        "top_p": st.floats(min_value=0.01, max_value=1),
        "presence_penalty": numbers,
        "frequency_penalty": numbers,
        "max_tokens": st.integers(1, 10_000),
        "seed": st.integers(0, MAX_LINE_SEED),
        "stop": st.text(min_size=1) | st.lists(st.text(min_size=1), max_size=4),
        "logit_bias": st.dictionaries(
            st.integers(0, 10**9 - 1).map(str), st.floats(min_value=-100, max_value=100)
        ),
    },
)


@given(custom_id=st.text(min_size=1), body=chats)
def test_every_served_line_is_the_same_after_it_was_stored(custom_id: str, body: dict[str, object]) -> None:
    fields = {**line(**body), "custom_id": custom_id}
    request = read_request(fields, MODELS)
    stored = LineRequest.model_validate(json.loads(json.dumps(request.model_dump(mode="json"))))
    assert stored == request
    assert stored.custom_id == custom_id
    assert json.loads(stored.body) == fields["body"]
    sampling = stored.text_body().sampling(0, max_new_tokens=9, seed=3)
    for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed"):
        if name in body:
            assert getattr(sampling, name) == body[name]
    stop = body.get("stop", ())
    assert sampling.stop == ((stop,) if isinstance(stop, str) else tuple(stop))  # type: ignore[arg-type]


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none(), max_size=2)


@given(name=st.sampled_from(sorted({*BODIES[CHAT], *NOT_SERVED[CHAT], "n", "stop", "seed"})), value=ANY)
def test_any_value_of_a_parameter_is_stored_as_it_is_or_refused(name: str, value: object) -> None:
    fields = {**line(), "body": {**BODIES[CHAT], name: value}}
    try:
        request = read_request(fields, MODELS)
    except LineFault as fault:
        parameter = fault.parameter
    else:
        parameter = name
        kept = {
            other: member for other, member in {**BODIES[CHAT], name: value}.items() if member is not None
        }
        assert json.loads(request.body) == kept
    assert parameter.partition(".")[0] == name
