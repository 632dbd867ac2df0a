"""Prepares a document for analysis: cleans and splits it, detects its language, adds a signature and flags.

The signature is a MinHash (Broder 1997, "On the resemblance and containment of documents"): the share of
equal minima in two signatures estimates the Jaccard similarity of the texts' sets of shingles. A signature
consists of NUM_PERMUTATIONS little-endian unsigned 32-bit integers.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, pairwise

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from jobs.documents.document import Document
from jobs.guards import INJECTION_SUSPECTED, find_control_token, is_injection_suspected
from jobs.text.plain import HTML_REMOVED, clean_text
from jobs.text.prose import sentence_spans
from kinds.sentiment.documents.language import LANGUAGE_UNSUPPORTED, SUPPORTED, document_language
from kinds.sentiment.series.mention import NUM_PERMUTATIONS

CONTROL_TOKEN = "control_token"  # noqa: S105 (no password: a turn mark of chat formats)
"""Flag for a text with a turn mark of a chat format; it is classified and shown, but not put into prompts."""

Span = tuple[int, int]
"""Beginning and end of a span in the text, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A document in the form in which the linker and the classifier read it."""

    document: Document
    text: str
    """Title and text without markup, with blank lines between paragraphs. All positions refer to it."""
    title: str
    """The cleaned title; empty if there is none."""
    title_end: int
    """End of the title in `text`; 0 without a title."""
    sentences: tuple[Span, ...]
    """Sentences of the text, preceded by the title if there is one."""
    language: str | None
    """ISO 639-1 code; None for a text without words."""
    signature: bytes
    flags: tuple[str, ...]
    """Any of html_removed, injection_suspected, control_token and language_unsupported."""

    @property
    def is_supported(self) -> bool:
        """Whether the classifier supports the language; other documents are counted but not classified."""
        return LANGUAGE_UNSUPPORTED not in self.flags


def prepare(document: Document, *, languages: frozenset[str] = frozenset({SUPPORTED})) -> Prepared:
    """Prepare a document without any model; `languages` are those that the classifier supports."""
    title, body = clean_text(document.title), clean_text(document.text)
    # Feeds and posts repeat the headline at the beginning of the text.
    repeats = bool(title.text) and body.text.startswith(title.text)
    text = body.text if repeats or not title.text else f"{title.text}\n\n{body.text}".rstrip()
    language = document_language(document.language, text)
    flags = {
        HTML_REMOVED: title.is_html_removed or body.is_html_removed,
        INJECTION_SUSPECTED: is_injection_suspected(text),
        CONTROL_TOKEN: find_control_token(document.title + " " + document.text) is not None,
        LANGUAGE_UNSUPPORTED: language is not None and language not in languages,
    }
    return Prepared(
        document=document,
        text=text,
        title=title.text,
        title_end=len(title.text),
        sentences=_sentences(text, len(title.text)),
        language=language,
        signature=signature(text),
        flags=tuple(name for name, holds in flags.items() if holds),
    )


def _sentences(text: str, title_end: int) -> tuple[Span, ...]:
    spans: list[Span] = [(0, title_end)] if title_end else []
    begin = title_end
    for paragraph in text[title_end:].split("\n\n"):
        spans += [(begin + first, begin + last) for first, last in sentence_spans(paragraph)]
        begin += len(paragraph) + 2
    return tuple(spans)


_SEED = 20_260_101
_SCHEME = "affine32"
"""Hash scheme, the default of datasketch. It permutes 32-bit integers by bijections, so two minima are equal
only if their shingles are equal."""
_CHUNK = 4_096
"""Number of shingles permuted at once, which takes one megabyte."""

_REPOST = re.compile(
    r"^(?:\W*\b(?:rt|via|mt)\b[\s:]*(?:@\w+|at_user)[\s:]*)+|\b(?:rt|via)[\s:]+(?:@\w+|at_user)\b"
)
_NOISE = re.compile(r"(?:https?://|www\.)\S+|\burl\b|\bat_user\b|@\w+|&\w{2,8};")
_WORD = re.compile(r"[^\W_]+(?:[.,'][^\W_]+)*")
_NUMBER = re.compile(
    r"\d|\b(?:january|february|march|april|june|july|august|september|october|november|december)\b"
)
_ALL_BITS = 0xFFFF_FFFF
_WORD_COPIES = (1, 0x9E37_79B1)
_NUMBER_COPIES = (0x85EB_CA6B, 0xC2B2_AE35, 0x27D4_EB2F)
_FIRST, _SECOND = 0x85EB_CA77, 0xC2B2_AE3D
"""Odd multipliers of known hash functions, which derive the hash of a pair of words. Those in _WORD_COPIES
and _NUMBER_COPIES derive several unrelated hashes from the hash of one word."""


def signature(text: str) -> bytes:
    """Return the signature of a text, which ignores case, links, mentions of users and marks of reposts.

    >>> similarity(signature("RT @x: Acme beats, raises. https://t.co/1"), signature("Acme beats; raises"))
    1.0
    """
    shingles = iter(_shingles(text))
    sketch = _empty_sketch()
    while chunk := list(islice(shingles, _CHUNK)):
        sketch.update_batch(chunk)
    return bytes(sketch.hashvalues.astype("<u4").tobytes())


def similarity(first: bytes, second: bytes) -> float:
    """Return the estimated Jaccard similarity of two signatures, 0 to 1."""
    return float(np.mean(unpack([first])[0] == unpack([second])[0]))


def unpack(signatures: Sequence[bytes]) -> NDArray[np.uint32]:
    """Return the signatures as rows, shape (signatures, NUM_PERMUTATIONS)."""
    return np.frombuffer(b"".join(signatures), dtype="<u4").reshape(-1, NUM_PERMUTATIONS)


def _shingles(text: str) -> set[int]:
    """Return hashes of words (two each), of pairs of words, and of numbers and months (three more each).

    A headline has too few pairs of words to use only these, and single words do not show the order. Numbers
    have a higher weight, because a headline that differs only in a number is the news of a different day. The
    weights are the best of six sets that were measured (benchmarks/linking.py).
    """
    lowered = text.lower()
    words = _WORD.findall(_NOISE.sub(" ", _REPOST.sub(" ", lowered))) or lowered.split()
    hashes = [zlib.crc32(word.encode("utf-8", "replace")) for word in words]
    shingles = {value * copy & _ALL_BITS for value in hashes for copy in _WORD_COPIES}
    shingles.update((first * _FIRST ^ second * _SECOND) & _ALL_BITS for first, second in pairwise(hashes))
    if _NUMBER.search(lowered):
        for word, value in zip(words, hashes, strict=True):
            if _NUMBER.search(word):
                shingles.update(value * copy & _ALL_BITS for copy in _NUMBER_COPIES)
    return shingles


def _empty_sketch() -> MinHash:
    """Return this thread's empty sketch; creating one takes as long as computing the minima of a headline."""
    sketch: MinHash | None = getattr(_of_thread, "sketch", None)
    if sketch is None:
        sketch = _of_thread.sketch = MinHash(
            num_perm=NUM_PERMUTATIONS, hashfunc=int, permutations=_permutations(), scheme=_SCHEME
        )
    sketch.clear()
    return sketch


_of_thread = threading.local()


@cache
def _permutations() -> NDArray[np.uint32]:
    permutations: NDArray[np.uint32] = np.asarray(
        MinHash(num_perm=NUM_PERMUTATIONS, seed=_SEED, scheme=_SCHEME).permutations
    )
    return permutations
