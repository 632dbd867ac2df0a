"""Bytes of single tokens, for each way in which tokenizers write bytes and spaces."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel

from workers.token_bytes import TokenBytes


def test_bytes_of_a_byte_level_vocabulary_are_those_of_the_text() -> None:
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    text = "naïve 東京 🚀\n\x00 \xad\x7f~"
    token_bytes = TokenBytes(tokenizer)
    ids = tokenizer.encode(text).ids
    assert [token_bytes.of(token_id) for token_id in ids] == [bytes([byte]) for byte in text.encode()]
    assert token_bytes.of(256) == b"<|end|>"
    assert token_bytes.of(9999) == b""


def test_bytes_of_a_vocabulary_with_byte_fallback() -> None:
    """The decoder of Llama 2 and Mistral: a mark for spaces, and tokens named after bytes."""
    words = ["<unk>", "\u2581caf", "<0xC3>", "<0xA9>", "\u2581\u2581", "<0x0A>"]
    tokenizer = Tokenizer(
        WordLevel(vocab={word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    token_bytes = TokenBytes(tokenizer)
    assert [token_bytes.of(token_id) for token_id in (1, 2, 3, 4, 5)] == [
        b" caf",
        b"\xc3",
        b"\xa9",
        b"  ",
        b"\n",
    ]
    assert b"".join(token_bytes.of(token_id) for token_id in (1, 2, 3)).decode() == " café"


def test_bytes_of_vocabularies_that_mark_words() -> None:
    tokenizer = Tokenizer(WordLevel(vocab={"<unk>": 0, "\u2581hello": 1, "low</w>": 2}, unk_token="<unk>"))
    assert TokenBytes(tokenizer).of(1) == "\u2581hello".encode()
    tokenizer.decoder = decoders.Metaspace()
    assert TokenBytes(tokenizer).of(1) == b" hello"
    tokenizer.decoder = decoders.BPEDecoder()
    assert TokenBytes(tokenizer).of(2) == b"low "
