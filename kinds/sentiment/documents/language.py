"""Which language a document is in; lingua is asked only where words of function do not tell."""

from __future__ import annotations

import re

from jobs.text.language import detect_language, language_confidence
from kinds.sentiment.documents.common_words import word_list

SUPPORTED = "en"
"""The language of the sets that the classifier is trained on; another model may know others."""

LANGUAGE_UNSUPPORTED = "language_unsupported"

_MAX_CHARACTERS = 2_000
"""Of a text that is looked at: its beginning has shown its language by then."""

_MIN_WORDS = 10
"""lingua takes headlines of fewer words, names and numbers mostly, for any language."""

_MIN_WORDS_WITH_EVIDENCE = 5
"""Where a word of another language is among them."""

_MIN_WORDS_FOR_DOUBT = 3
"""Of two words, "lol" and the like, lingua tells nothing."""

_MIN_SMALL_WORDS = 2
"""Of one, as in "Pfizer jab approved", it tells little more: "bans" may be Norwegian."""

_MIN_LETTERS = 3
"""Of a word that lingua can tell anything of: its models are of trigrams."""

_MIN_CONFIDENCE = 0.02
"""That words in small letters are English: 95% of the English headlines without a listed word have more."""

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
    spelled = _WORD.findall(_MASKED.sub(" ", text[:_MAX_CHARACTERS]))
    words = [word.lower() for word in spelled]
    if not words:
        return SUPPORTED if _WORD.search(text) else None  # tickers and links alone
    is_short = len(words) < _MIN_WORDS
    english, others, shared = word_list("english"), word_list("other_languages"), word_list("shared")
    num_english = sum(word in english and not (is_short and word in shared) for word in words)
    num_others = sum(word in others or not word.isascii() for word in words)
    if num_english >= max(num_others, 1):
        return SUPPORTED
    is_weak = num_others == 1 and len(words) < _MIN_WORDS_WITH_EVIDENCE and text.isascii()
    if (is_weak or (is_short and num_others == 0)) and not _is_foreign(spelled):
        return SUPPORTED  # "Infosys Q2 PAT zooms", "Den Networks rallies"
    return detect_language(text[:_MAX_CHARACTERS]) or SUPPORTED


def _is_foreign(words: list[str]) -> bool:
    """Whether the words in small letters can hardly be English; lingua takes names for any language."""
    small = [word for word in words if word.islower() and len(word) >= _MIN_LETTERS]
    common, headlines, shared = word_list("common"), word_list("headlines"), word_list("shared")
    if any((word in common or word in headlines) and word not in shared for word in small):
        return False
    is_enough = len(small) >= _MIN_SMALL_WORDS and len(words) >= _MIN_WORDS_FOR_DOUBT
    return is_enough and language_confidence(" ".join(small), SUPPORTED) < _MIN_CONFIDENCE
