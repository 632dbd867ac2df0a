"""Finds the part of a sentence that is about one entity where several share the sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence

_BOUNDARY = re.compile(
    r"(?:(?<!\s)\s++)?[;|]\s*+|(?<!\s)\s++[-–—]{1,2}\s++"
    r"|(?:,|(?<!\s))\s++(?:but|while|whereas|although|though|and|as|vs\.?|versus)\s++|[,:]\s++",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")
MAX_CHARACTERS = 600
"""Maximum characters of a sentence that is shown; a text without full stops is cut around the mention."""

Span = tuple[int, int]


def clause(text: str, sentence: Span, mention: Span, others: Sequence[Span]) -> str:
    """Return the sentence, or the clause around the mention if the sentence mentions `others`, too.

    >>> headline = "Acme surges 5% on results, Bolt slides after profit warning"
    >>> clause(headline, (0, len(headline)), (27, 31), [(0, 4)])
    'Bolt slides after profit warning'
    """
    begin, end = sentence
    if end - begin > MAX_CHARACTERS:
        begin = max(begin, mention[0] - MAX_CHARACTERS // 2)
        end = min(end, begin + MAX_CHARACTERS)
    near = [span for span in others if begin <= span[0] < end]
    if near:
        begin, end = _clause_span(text, (begin, end), mention, near)
    return text[begin:end].strip()


def _clause_span(text: str, sentence: Span, mention: Span, others: Sequence[Span]) -> Span:
    """Return the clause around the mention.

    Clauses without a name belong to the one before; a list of names is not cut.
    """
    names = [mention, *others]
    spans = _merged(_parts(text, sentence, names), names)
    for begin, end in spans:
        rest = "".join(text[a:b] for a, b in _gaps((begin, end), names))
        if not _WORD.search(rest):  # "Acme, Bolt and Core rise": one clause of three names
            return sentence
    return next(((begin, end) for begin, end in spans if begin <= mention[0] < end), sentence)


def _parts(text: str, sentence: Span, names: Sequence[Span]) -> list[Span]:
    parts = []
    begin = sentence[0]
    for boundary in _BOUNDARY.finditer(text, *sentence):
        if any(start < boundary.end() and boundary.start() < stop for start, stop in names):
            continue
        parts.append((begin, boundary.start()))
        begin = boundary.end()
    return [*parts, (begin, sentence[1])]


def _merged(parts: Sequence[Span], names: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    is_named = False
    for begin, end in parts:
        names_one = any(begin <= start < end for start, _ in names)
        if merged and not (names_one and is_named):
            merged[-1] = (merged[-1][0], end)
            is_named = is_named or names_one
        else:
            merged.append((begin, end))
            is_named = names_one
    return merged


def _gaps(span: Span, names: Sequence[Span]) -> list[Span]:
    gaps = []
    begin = span[0]
    for start, stop in sorted(names):
        if span[0] <= start < span[1]:
            gaps.append((begin, start))
            begin = stop
    return [*gaps, (begin, span[1])]
