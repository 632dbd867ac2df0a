"""The bytes of single tokens, which `decode` does not return where a token is a part of a character."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""A token of one byte, as tokenizers with byte fallback name it."""


class TokenBytes:
    """The bytes of each token of one tokenizer, read from its decoder's settings.

    Steps that concern only the beginning of a text, such as dropping its first space, do not apply to single
    tokens, so that the bytes of a text's tokens in a row are the text, apart from such a space.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {
            token_id: token.content.encode()
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
        }
        self._decode = _decoder(tokenizer)

    def of(self, token_id: int) -> bytes:
        """Return the bytes of a token; an id without a token has none."""
        if token_id in self._added:
            return self._added[token_id]
        token = self._tokenizer.id_to_token(token_id)
        return b"" if token is None else self._decode(token)


def _decoder(tokenizer: Tokenizer) -> Callable[[str], bytes]:
    """Return the function that decodes a token that is not an added one."""
    settings = None if tokenizer.decoder is None else json.loads(tokenizer.decoder.__getstate__())
    steps = [] if settings is None else settings.get("decoders", [settings])
    if any(step["type"] == "ByteLevel" for step in steps):
        return _of_byte_level
    spaces = _space_marks(steps)
    has_bytes = any(step["type"] == "ByteFallback" for step in steps)

    def decode(token: str) -> bytes:
        if has_bytes and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(match[1], 16)])
        for mark, text in spaces.items():
            token = token.replace(mark, text)
        return token.encode()

    return decode


def _space_marks(steps: list[Mapping[str, object]]) -> dict[str, str]:
    """Return the strings that a decoder replaces in each token, and what it replaces them with."""
    marks: dict[str, str] = {}
    for step in steps:
        pattern = step.get("pattern")
        if step["type"] == "Replace" and isinstance(pattern, dict) and "String" in pattern:
            marks[str(pattern["String"])] = str(step["content"])
        elif step["type"] == "Metaspace":
            marks[str(step["replacement"])] = " "
        elif step["type"] == "BPEDecoder":
            marks[str(step["suffix"])] = " "
    return marks


def _of_byte_level(token: str) -> bytes:
    """Decode a token of a byte-level vocabulary, in which each character stands for a byte.

    >>> _of_byte_level("\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}caf\N{LATIN CAPITAL LETTER A WITH TILDE}")
    b' caf\\xc3'
    """
    table = _byte_characters()
    if not all(character in table for character in token):
        return token.encode()
    return bytes(table[character] for character in token)


@cache
def _byte_characters() -> Mapping[str, int]:
    """Return the byte that each character stands for.

    From GPT-2's `bytes_to_unicode` (openai/gpt-2, encoder.py): printable bytes of Latin-1 stand for
    themselves, and the others are numbered from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }
