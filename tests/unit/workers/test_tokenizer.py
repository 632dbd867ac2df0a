"""workers.tokenizer on a made-up model: templates, control tokens, end of text, refusals."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import InputError
from tests.tiny_model import CHAT_TEMPLATE, WORDS, write_tiny_model
from workers.engine import Tokenizer
from workers.models.files import MalformedFileError
from workers.tokenizer import (
    ChatTemplateError,
    ChatTokenizer,
    ControlTokenError,
    TokenizerError,
    load_tokenizer,
)

HELLO = (("user", "hello world"),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny")


def with_template(folder: Path, template: str) -> ChatTokenizer:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return load_tokenizer(folder)


def test_prompt_is_the_rendered_chat_ready_for_the_assistant(folder: Path) -> None:
    ids = load_tokenizer(folder).encode_chat((("system", "hello"), *HELLO))

    words = (
        "<|im_start|> system hello <|im_end|> <|im_start|> user hello world <|im_end|> <|im_start|> assistant"
    )
    assert [WORDS[each] for each in ids] == words.split()


def test_prompts_have_the_same_tokens_together_as_alone(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    chats = [HELLO, (("system", "hello"), *HELLO), (("user", "hello " * 50),), (("user", ""),)]
    texts = [tokenizer.render_chat(chat) for chat in chats]
    assert tokenizer.count_tokens(texts) == [len(tokenizer.encode_chat(chat)) for chat in chats]
    assert tokenizer.count_tokens([]) == []


def test_it_serves_as_the_engine_contract_says(folder: Path) -> None:
    tokenizer: Tokenizer = load_tokenizer(folder)

    assert tokenizer.num_tokens == len(WORDS)
    assert tokenizer.decode(tokenizer.encode_chat(HELLO)) == "user hello world assistant"


def test_digests_are_those_of_the_file_and_of_the_template_text(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)

    assert tokenizer.tokenizer_sha256 == hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    assert tokenizer.chat_template_sha256 == hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()


def test_every_end_of_text_id_that_any_file_names_counts(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [6, 7]}))

    assert load_tokenizer(folder).end_of_text_ids == {1, 6, 7}


def test_model_without_end_of_text_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")

    with pytest.raises(TokenizerError, match="eos_token_id"):
        load_tokenizer(folder)


@pytest.mark.parametrize("token", ["<|im_start|>system", "<|im_end|>", "[INST]", "<|eot_id|>"])
def test_control_token_in_a_turn_is_refused(folder: Path, token: str) -> None:
    with pytest.raises(ControlTokenError, match="at character 7") as caught:
        load_tokenizer(folder).encode_chat((("user", f"hello {token} world"),))

    assert caught.value.code == "input_control_token"


def test_lone_surrogate_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_tokenizer(folder).encode_chat((("user", "a\ud800"),))

    assert caught.value.code == "text_invalid_unicode"


def test_unknown_role_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="'tool'"):
        load_tokenizer(folder).encode_chat((("tool", "hello"),))


def test_template_that_refuses_the_turns_names_its_reason(folder: Path) -> None:
    tokenizer = with_template(folder, "{{ raise_exception('roles must alternate') }}")

    with pytest.raises(ChatTemplateError, match="roles must alternate"):
        tokenizer.encode_chat(HELLO)


def test_template_cannot_leave_its_sandbox(folder: Path) -> None:
    tokenizer = with_template(folder, "{{ ''.__class__.__mro__[1].__subclasses__() }}")

    with pytest.raises(ChatTemplateError, match="unsafe"):
        tokenizer.encode_chat(HELLO)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "hello world"}'),
        ("{{ bos_token }}x{{ eos_token }}", "<|im_start|>x<|im_end|>"),
        ("{% for m in messages %}{% break %}{% endfor %}\n   {% if true %}\nhello{% endif %}", "hello"),
        ("{% generation %}hello{% endgeneration %}", "hello"),
        ("{{ strftime_now('%%') }}", "%"),
        ("{% if tools is none and documents is none %}hello{% endif %}", "hello"),
    ],
)
def test_names_and_blocks_of_published_templates_work(folder: Path, template: str, text: str) -> None:
    assert with_template(folder, template)._render(HELLO).strip() == text


def test_text_without_a_template_may_contain_control_tokens(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)

    ids = tokenizer.encode_text("hello <|im_end|> world")

    assert [WORDS[each] for each in ids] == ["hello", "<|im_end|>", "world"]
    with pytest.raises(InputError, match="surrogate"):
        tokenizer.encode_text("a\ud800")


def test_text_without_a_template_begins_as_the_tokenizer_begins_texts(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [0], "tokens": ["<|im_start|>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(folder)

    assert tokenizer.encode_text("hello") == (0, WORDS.index("hello"))
    assert tokenizer.encode_chat(HELLO)[:2] == (0, WORDS.index("user"))


def test_template_reads_the_arguments_of_a_prompt(folder: Path) -> None:
    tokenizer = with_template(folder, "{{ style }} {{ 'deep' if depth > 1 }}{{ enable_thinking }}")

    assert tokenizer.render_chat(HELLO, (("style", "terse"), ("depth", 2))) == "terse deepFalse"
    assert tokenizer.render_chat(HELLO, (("enable_thinking", True), ("depth", 1))) == " True"
    assert tokenizer.render_chat(HELLO, (("depth", 1), ("unread", "x"))) == " False"


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "bos_token"])
def test_argument_that_would_replace_the_conversation_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        load_tokenizer(folder).encode_chat(HELLO, ((name, "hello"),))


def test_control_token_in_an_argument_is_refused(folder: Path) -> None:
    with pytest.raises(ControlTokenError, match="im_end"):
        load_tokenizer(folder).encode_chat(HELLO, (("style", "<|im_end|>"),))


def test_named_templates_of_older_models_are_read(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    entries = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "hello"}]
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": {"content": "<|im_end|>"}, "chat_template": entries})
    )

    assert load_tokenizer(folder).encode_chat(HELLO) == (WORDS.index("hello"),)


@pytest.mark.parametrize(
    ("name", "reason"), [("tokenizer.json", "is missing"), ("chat_template.jinja", "has no chat template")]
)
def test_missing_file_is_named(folder: Path, name: str, reason: str) -> None:
    (folder / name).unlink()

    with pytest.raises(TokenizerError, match=reason):
        load_tokenizer(folder)


def test_damaged_tokenizer_is_malformed(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": 3}')

    with pytest.raises(MalformedFileError):
        load_tokenizer(folder)


def test_broken_template_is_refused_when_it_is_loaded(folder: Path) -> None:
    with pytest.raises(TokenizerError, match="compile"):
        with_template(folder, "{% for %}")


def test_truncation_of_the_training_run_is_not_applied(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (folder / "tokenizer.json").write_text(json.dumps(settings))

    assert len(load_tokenizer(folder).encode_chat(HELLO)) == 7


def test_tokenizer_needs_neither_torch_nor_transformers(folder: Path) -> None:
    code = (
        "import sys, pathlib, workers.tokenizer as t;"
        "t.load_tokenizer(pathlib.Path(sys.argv[1])).encode_chat((('user', 'hello'),));"
        "print(sorted({'torch', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.attack("template that grows without bound")
@pytest.mark.parametrize(
    "template",
    [
        "\n{% set ns = namespace(a=messages[0].content) %}"
        "{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}{{ ns.a }}",
        "\n{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "\n{{ messages | tojson(indent=1000000000) }}",
        "\n{{ strftime_now('%1000000000d') }}",
    ],
)
def test_chat_template_without_end_refuses_the_turns_by_name_and_line(folder: Path, template: str) -> None:
    with pytest.raises(ChatTemplateError, match="line 2: "):
        with_template(folder, template).encode_chat(HELLO)


@pytest.mark.attack("template that grows without bound")
@pytest.mark.parametrize(
    "template",
    ["{% for a in messages %}" * 30 + "{% endfor %}" * 30, "{{ " + "(" * 900 + "1" + ")" * 900 + " }}"],
)
def test_chat_template_that_python_cannot_compile_is_refused_by_name(folder: Path, template: str) -> None:
    with pytest.raises(TokenizerError, match="nested too deep"):
        with_template(folder, template)
