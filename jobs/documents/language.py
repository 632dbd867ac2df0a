"""Which language a document is in; lingua is asked only where words of function do not tell."""

from __future__ import annotations

import re

from jobs.documents.common_words import word_list
from jobs.text.language import detect_language

SUPPORTED = "en"
"""The language of the sets that the classifier is trained on; another model may know others."""

LANGUAGE_UNSUPPORTED = "language_unsupported"

_MAX_CHARACTERS = 2_000
"""Of a text that is looked at: its beginning has shown its language by then."""

_MIN_WORDS = 10
"""lingua takes headlines of fewer words, names and numbers mostly, for any language."""

_MIN_WORDS_WITH_EVIDENCE = 5
"""Where a word of another language is among them."""

_MASKED = re.compile(r"(?:https?://|www\.)\S+|[$#@]\s?\w+|\b(?:URL|AT_USER)\b")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


def document_language(given: str | None, text: str) -> str | None:
    """ISO 639-1 code: what the source says, else what the words say; None for a text without words.

    >>> document_language(None, "Acme Q2 net loss at Rs 10.4 crore")
    'en'
    >>> document_language(None, "Aktie von Acme steigt nach den Zahlen auf ein neues Hoch")
    'de'
    """
    if given is not None:
        return given
    words = [word.lower() for word in _WORD.findall(_MASKED.sub(" ", text[:_MAX_CHARACTERS]))]
    if not words:
        return SUPPORTED if _WORD.search(text) else None  # tickers and links alone
    english, others = word_list("english"), word_list("other_languages")
    num_english = sum(word in english for word in words)
    num_others = sum(word in others or not word.isascii() for word in words)
    if num_english >= max(num_others, 1) or (num_others == 0 and len(words) < _MIN_WORDS):
        return SUPPORTED  # "Infosys Q2 PAT zooms": nothing speaks against it
    if num_others == 1 and len(words) < _MIN_WORDS_WITH_EVIDENCE and text.isascii():
        return SUPPORTED  # "Den Networks rallies"
    return detect_language(text[:_MAX_CHARACTERS]) or SUPPORTED
