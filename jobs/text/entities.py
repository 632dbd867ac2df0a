"""Character references of HTML (`&amp;`, `&#65;`) as characters, whatever number stands in them."""

from __future__ import annotations

import html
import re

_REFERENCE = re.compile(r"&#(?:(?P<decimal>[0-9]++)|[xX](?P<hex>[0-9a-fA-F]++));?")
_MAX_DIGITS = 7
"""U+10FFFF is 1114111, or 10FFFF; beyond it HTML has the replacement character (HTML, section 13.2.5.80)."""
_REPLACEMENT = "\ufffd"


def unescape(text: str) -> str:
    """Unescape as html.unescape does, which raises ValueError for a number of more than 4,300 digits.

    >>> unescape("&amp;&#0000000065;&#x41;"), unescape("a&#" + "9" * 5000 + ";b")
    ('&AA', 'a\ufffdb')
    """
    if "&#" in text:
        text = _REFERENCE.sub(_bounded, text)
    return html.unescape(text)


def _bounded(match: re.Match[str]) -> str:
    digits, mark = (match["decimal"], "") if match["decimal"] is not None else (match["hex"], "x")
    digits = digits.lstrip("0") or "0"
    return f"&#{mark}{digits};" if len(digits) <= _MAX_DIGITS else _REPLACEMENT
