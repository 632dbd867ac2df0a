"""The default model's tokenizer against transformers' own, id for id."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from workers.tokenizer import ChatTokenizer, load_tokenizer

CHATS = [
    (("user", "Write a short article about tides."),),
    (("system", "You are an editor."), ("user", "Name three rivers.")),
    (("user", "Hi"), ("assistant", "Hello!"), ("user", "Again, please.")),
    (("user", ""),),
    (("user", "  leading, trailing and double  blanks \n\n\tand tabs  "),),
    (("user", "naïve café 東京 🚀👩‍👩‍👧 \u202eright to left\u202c שלום e\u0301 \x00"),),
    (("user", "1234567890 3.14 1e999 def f(x): return x**2  # <b>bold</b> </s> im_start {{ x }}"),),
    (("user", "long " * 2000),),
]


@pytest.fixture(scope="module")
def reference(model_folder: Path) -> PreTrainedTokenizerBase:
    reference: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_folder)
    return reference


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> ChatTokenizer:
    return load_tokenizer(model_folder)


@pytest.mark.parametrize("chat", CHATS)
def test_prompt_ids_are_those_of_transformers(
    tokenizer: ChatTokenizer, reference: PreTrainedTokenizerBase, chat: tuple[tuple[str, str], ...]
) -> None:
    messages = [{"role": role, "content": content} for role, content in chat]

    expected = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    assert list(tokenizer.encode_chat(chat)) == expected


@pytest.mark.parametrize("chat", CHATS)
def test_text_of_ids_is_that_of_transformers(
    tokenizer: ChatTokenizer, reference: PreTrainedTokenizerBase, chat: tuple[tuple[str, str], ...]
) -> None:
    ids = tokenizer.encode_chat(chat)

    assert tokenizer.decode(ids) == reference.decode(list(ids), skip_special_tokens=True)
    cut = ids[: len(ids) // 2]  # may end inside a character
    assert tokenizer.decode(cut) == reference.decode(list(cut), skip_special_tokens=True)


@pytest.mark.parametrize("chat", CHATS)
def test_bytes_of_the_tokens_are_those_of_the_prompt(
    tokenizer: ChatTokenizer, chat: tuple[tuple[str, str], ...]
) -> None:
    ids = tokenizer.encode_chat(chat)

    assert b"".join(map(tokenizer.token_bytes, ids)) == tokenizer.render_chat(chat).encode()


def test_ids_of_a_text_without_a_template_are_those_of_transformers(
    tokenizer: ChatTokenizer, reference: PreTrainedTokenizerBase
) -> None:
    text = "Once upon a time,\n\n<|im_start|> naïve 東京"

    assert list(tokenizer.encode_text(text)) == reference(text)["input_ids"]


def test_vocabulary_and_end_of_text_are_those_of_transformers(
    tokenizer: ChatTokenizer, reference: PreTrainedTokenizerBase
) -> None:
    assert tokenizer.num_tokens == len(reference)
    assert tokenizer.end_of_text_ids == {reference.eos_token_id}
    assert set(reference.all_special_tokens) <= set(tokenizer.control_tokens)
