"""An OpenAI batch file of 200 lines, good and bad, from file to files, with the default models."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion

from kinds.prompt.openai.lines import CHAT, COMPLETIONS, EMBEDDINGS
from tests.acceptance.running import pressroom
from workers.models.install import add_model
from workers.settings import DEFAULT_EMBEDDER, DEFAULT_MODEL, Settings

RUN_SECONDS = 300.0

TEXT_MODEL = "gpt-4o-mini"
VECTOR_MODEL = "text-embedding-3-small"

NUM_CHATS = 45
NUM_COMPLETIONS = 12
NUM_EMBEDDINGS = 98

SECRET = "AKIA" + "ABCDEFGHIJKLMNOP"

Body = dict[str, Any]


def turns(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


CHAT_FEATURES: tuple[Body, ...] = (
    {"n": 2, "temperature": 1.3},
    {"logprobs": True, "top_logprobs": 2},
    {"logprobs": True},
    {"stop": ["a", "e"], "seed": 5},
    {"logit_bias": {"28": -100}, "presence_penalty": 0.5, "frequency_penalty": 0.5},
    {"max_tokens": None, "max_completion_tokens": 2, "top_p": 0.5, "user": "customer-7"},
    {"messages": [{"role": "developer", "content": "Be brief."}, *turns("Hello")]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}], "stream": False},
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_object"}, "max_tokens": 24},
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "bread",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {
                        "crust": {"enum": ["thin", "thick"]},
                        "loaves": {"type": "integer", "minimum": 1, "maximum": 9},
                    },
                    "required": ["crust", "loaves"],
                    "additionalProperties": False,
                },
            },
        },
        "max_tokens": 40,
    },
)

BAD_CHATS: tuple[tuple[str, Body], ...] = (
    ("unsupported_parameter tools", {"tools": []}),
    ("unsupported_parameter tool_choice", {"tool_choice": "auto"}),
    ("unsupported_parameter reasoning_effort", {"reasoning_effort": "low"}),
    ("unsupported_parameter metadata", {"metadata": {}}),
    ("unsupported_parameter service_tier", {"service_tier": "auto"}),
    ("unsupported_parameter store", {"store": False}),
    ("unsupported_parameter top_k", {"top_k": 5}),
    ("invalid_value stream", {"stream": True}),
    ("invalid_value temperature", {"temperature": 3}),
    ("invalid_value top_p", {"top_p": -1}),
    ("invalid_value n", {"n": 0}),
    ("invalid_value stop", {"stop": ["1", "2", "3", "4", "5"]}),
    ("invalid_value logit_bias", {"logit_bias": {"bread": 1}}),
    ("invalid_value top_logprobs", {"top_logprobs": 2}),
    ("invalid_value messages.0.role", {"messages": [{"role": "tool", "content": "x"}]}),
    (
        "invalid_value messages.0.content",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    ),
    ("invalid_value response_format.type", {"response_format": {"type": "grammar"}}),
    ("invalid_value max_completion_tokens", {"max_tokens": 1, "max_completion_tokens": 1}),
    ("missing_required_parameter messages", {"messages": None}),
    ("model_not_found model", {"model": "gpt-5"}),
    ("model_not_found model", {"model": VECTOR_MODEL}),
    ("context_length_exceeded None", {"messages": turns("bread " * 4_000)}),
    ("input_control_token body", {"messages": turns("bread <|im_end|>")}),
    ("secret_in_input body", {"messages": turns(f"The key is {SECRET}.")}),
)

BAD_COMPLETIONS: tuple[tuple[str, Body], ...] = (
    ("unsupported_parameter echo", {"echo": True}),
    ("unsupported_parameter best_of", {"best_of": 2}),
    ("invalid_value prompt", {"prompt": [1, 2, 3]}),
    ("invalid_value logprobs", {"logprobs": 9}),
)

BAD_EMBEDDINGS: tuple[tuple[str, Body], ...] = (
    ("invalid_value input", {"input": [[1, 2]]}),
    ("invalid_value input", {"input": ["bread", ""]}),
    ("invalid_value dimensions", {"dimensions": 256}),
    ("context_length_exceeded input", {"input": "bread " * 1_000}),
    ("context_length_exceeded input.1", {"input": ["bread", "bread " * 1_000]}),
)


@dataclass(frozen=True, slots=True)
class BatchFile:
    """The lines of the file, and what is expected of them."""

    lines: tuple[str, ...]
    expected: dict[str, str]
    """Code and parameter of the error of each bad line by its id; empty for a good line."""


def batch_file() -> BatchFile:
    """Return 200 lines: some are served, some get an error, and seven have no id of their own."""
    lines: list[str] = []
    expected: dict[str, str] = {}

    def add(url: str, body: Body, error: str = "", /, **members: object) -> None:
        custom_id = str(members.get("custom_id", f"line {len(lines)}"))
        expected[custom_id] = error
        record = {"custom_id": custom_id, "method": "POST", "url": url, "body": body, **members}
        lines.append(json.dumps(record))

    for number in range(NUM_CHATS):
        body = {"model": TEXT_MODEL, "messages": turns(f"Name bread number {number}."), "max_tokens": 4}
        add(CHAT, {**body, **CHAT_FEATURES[number % len(CHAT_FEATURES)]})
    for number in range(NUM_COMPLETIONS):
        prompt = f"Bread number {number} is" if number % 4 else ["Bread is", "An oven is"]
        body = {"model": DEFAULT_MODEL if number % 2 else TEXT_MODEL, "prompt": prompt, "max_tokens": 3}
        add(COMPLETIONS, {**body, **({"logprobs": 2} if number % 3 == 0 else {})})
    for number in range(NUM_EMBEDDINGS):
        text = f"bread number {number // 2}"
        form = "base64" if number % 2 else "float"
        add(EMBEDDINGS, {"model": VECTOR_MODEL, "input": [text, "oven"], "encoding_format": form})
    for error, changes in BAD_CHATS:
        add(CHAT, {"model": TEXT_MODEL, "messages": turns("Hello"), **changes}, error)
    for error, changes in BAD_COMPLETIONS:
        add(COMPLETIONS, {"model": TEXT_MODEL, "prompt": "Bread", **changes}, error)
    for error, changes in BAD_EMBEDDINGS:
        add(EMBEDDINGS, {"model": VECTOR_MODEL, "input": "bread", **changes}, error)

    good = {"model": VECTOR_MODEL, "input": "bread"}
    for number, members in enumerate(({"method": "GET"}, {"url": "/v1/responses"})):
        code, name = ("invalid_method", "method") if number == 0 else ("invalid_url", "url")
        add(EMBEDDINGS, good, f"{code} {name}", **members)
    request = {"method": "POST", "url": EMBEDDINGS, "body": good}
    lines.append(json.dumps({"custom_id": "line 0", **request}))
    lines.extend(json.dumps({**request, **members}) for members in ({}, {"custom_id": ""}, {"custom_id": 7}))
    lines.extend(["{not json", '"a text"', "[]"])
    while len(lines) < 200:
        add(EMBEDDINGS, good, custom_id=f"an id\nof two lines {len(lines)}")
    return BatchFile(tuple(lines), expected)


@dataclass(frozen=True, slots=True)
class Finished:
    """The files that the command wrote."""

    out: Path
    code: int
    printed: dict[str, Any]

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / name).read_text().splitlines()]

    def bodies(self, beginning: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the id and the body of each response whose object begins like this."""
        for line in self.lines("output.jsonl"):
            body = line["response"]["body"]
            if body["object"].startswith(beginning):
                yield line["custom_id"], body


BATCH = batch_file()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Finished:
    """`pressroom run prompt BATCH.jsonl`, after it ended."""
    add_model(DEFAULT_EMBEDDER, Settings().models_folder)
    folder = tmp_path_factory.mktemp("openai")
    file = folder / "batch.jsonl"
    file.write_text("\n".join(BATCH.lines) + "\n")
    maps = [f"{TEXT_MODEL}={DEFAULT_MODEL}", f"{VECTOR_MODEL}={DEFAULT_EMBEDDER}"]
    options = [word for pair in maps for word in ("--model-map", pair)]
    out = folder / "out"
    arguments = ("run", "prompt", str(file), *options, "--max-dropped", "1", "--out", str(out), "--json")
    with pressroom(folder / "home", *arguments, models_dir=str(model_folder.parent)) as run:
        code, printed = run.finish(RUN_SECONDS)
        assert printed, run.stderr
    return Finished(out, code, printed)


def test_every_line_is_in_one_file(finished: Finished) -> None:
    assert len(BATCH.lines) == 200
    completed = [line["custom_id"] for line in finished.lines("output.jsonl")]
    failed = [line["custom_id"] for line in finished.lines("errors.jsonl")]
    good = {custom_id for custom_id, error in BATCH.expected.items() if not error}
    assert sorted(completed) == sorted(good)
    assert sorted(failed) == sorted(BATCH.expected.keys() - good)
    num_unnamed = len(BATCH.lines) - len(BATCH.expected)
    counts = finished.printed["lines"]
    assert counts == {"completed": len(completed), "refused": len(failed) - 3, "failed": 3}
    assert len(finished.lines("rejected.jsonl")) == counts["refused"] + num_unnamed
    assert finished.code == 1  # three embedding lines failed although intake accepted them


def test_each_bad_line_has_the_error_of_its_own_fault(finished: Finished) -> None:
    for line in finished.lines("errors.jsonl"):
        assert line.keys() == {"id", "custom_id", "response", "error"}
        assert line["error"] is None
        assert line["response"]["status_code"] == 400
        error = line["response"]["body"]["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert f"{error['code']} {error['param']}" == BATCH.expected[line["custom_id"]]
    assert SECRET not in (finished.out / "errors.jsonl").read_text()


def test_chats_are_read_by_the_official_type(finished: Finished) -> None:
    chats = {custom_id: ChatCompletion.model_validate(body) for custom_id, body in finished.bodies("chat")}
    assert len(chats) == NUM_CHATS
    for number in range(NUM_CHATS):
        chat = chats[f"line {number}"]
        features = CHAT_FEATURES[number % len(CHAT_FEATURES)]
        assert chat.model == DEFAULT_MODEL
        assert len(chat.choices) == features.get("n", 1)
        assert chat.usage is not None
        assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
        for choice in chat.choices:
            text = choice.message.content
            assert text is not None
            assert not any(stop in text for stop in features.get("stop", ()))
            form = features.get("response_format", {"type": "text"})["type"]
            if form != "text" and choice.finish_reason == "stop":
                assert isinstance(json.loads(text), dict)
            if form == "json_schema":
                answer = json.loads(text)
                assert list(answer) == ["crust", "loaves"]
                assert answer["crust"] in ("thin", "thick")
                assert answer["loaves"] in range(1, 10)
            if choice.finish_reason == "length":
                limit = features.get("max_completion_tokens") or features.get("max_tokens", 4)
                assert chat.usage.completion_tokens <= limit * len(chat.choices)
            logprobs = choice.logprobs
            assert (logprobs is not None) == features.get("logprobs", False)
            if logprobs is not None and logprobs.content is not None:
                for token in logprobs.content:
                    assert token.logprob <= 0
                    assert len(token.top_logprobs) == features.get("top_logprobs", 0)
                written = b"".join(bytes(token.bytes or ()) for token in logprobs.content)
                assert text in written.decode(errors="replace")


def test_completions_are_read_by_the_official_type(finished: Finished) -> None:
    texts = {custom_id: Completion.model_validate(body) for custom_id, body in finished.bodies("text")}
    assert len(texts) == NUM_COMPLETIONS
    for number in range(NUM_COMPLETIONS):
        text = texts[f"line {NUM_CHATS + number}"]
        assert [choice.index for choice in text.choices] == list(range(1 if number % 4 else 2))
        for choice in text.choices:
            logprobs = choice.logprobs
            assert (logprobs is not None) == (number % 3 == 0)
            if logprobs is not None:
                assert len(logprobs.tokens or ()) == len(logprobs.text_offset or ())
                assert all(2 <= len(top) <= 3 for top in logprobs.top_logprobs or ())


def test_embeddings_are_read_by_the_official_type_in_both_formats(finished: Finished) -> None:
    bodies = dict(finished.bodies("list"))
    first = NUM_CHATS + NUM_COMPLETIONS
    for number in range(0, NUM_EMBEDDINGS, 2):
        plain = CreateEmbeddingResponse.model_validate(bodies[f"line {first + number}"])
        encoded = bodies[f"line {first + number + 1}"]
        vectors = [np.frombuffer(base64.b64decode(each["embedding"]), "float32") for each in encoded["data"]]
        assert [each.embedding for each in plain.data] == [vector.tolist() for vector in vectors]
        assert [len(vector) for vector in vectors] == [384, 384]
        assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)
        assert plain.usage.prompt_tokens == encoded["usage"]["prompt_tokens"] > 4


def test_the_page_and_the_summary_count_the_lines(finished: Finished) -> None:
    summary = json.loads((finished.out / "summary.json").read_text())
    assert summary["lines"] == finished.printed["lines"]
    page = (finished.out / "index.html").read_text()
    assert "batch.jsonl" in page
    assert "errors.jsonl" in page
    assert len(finished.lines("provenance.jsonl")) == finished.printed["counts"]["succeeded"]
