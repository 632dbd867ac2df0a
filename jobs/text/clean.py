"""The text of a document as a reader sees it: no markup, no invisible signs, paragraphs kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jobs.text.entities import unescape
from jobs.text.markup import without_markup

HTML_REMOVED = "html_removed"

_TAG = re.compile(
    r"</?(?:a|abbr|article|aside|b|blockquote|body|br|center|cite|code|dd|del|div|dl|dt|em|embed|figcaption|figure"
    r"|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|li|link|main|mark|meta|nav|noscript|object"
    r"|ol|option|p|pre|q|s|script|section|select|small|source|span|strong|style|sub|sup|svg|table|tbody|td|textarea"
    r"|tfoot|th|thead|time|title|tr|u|ul|video)(?=[\s/>])[^<>]{0,2000}>|<!--|<!doctype|<\?xml|<script",
    re.IGNORECASE,
)
"""What is surely markup. "P<E ratio" and "<3" are not, and a parser would swallow the text behind them."""

_BREAK = re.compile(
    r"</?(?:address|article|aside|blockquote|dd|div|dl|dt|figcaption|figure|footer|h[1-6]|header|hr|li|main|ol|p|pre"
    r"|section|table|td|th|tr|ul)(?=[\s/>])[^<>]{0,2000}>|<br[^<>]{0,200}>",
    re.IGNORECASE,
)
_LESS_THAN = re.compile(r"<(?![A-Za-z/!?])")
_INVISIBLE = re.compile(
    "[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""Control and format characters: they hide an alias ("Ac\u00adme") or turn the direction of a line."""

_PARAGRAPHS = re.compile(r"(?<!\s)\s*\n\s*\n\s*|[\u2029]")
_SPACE = re.compile(r"\s+")
_MAX_ROUNDS = 3
"""Feeds escape HTML once, careless ones twice."""


@dataclass(frozen=True, slots=True)
class CleanText:
    """A text, and whether markup was taken out of it."""

    text: str
    """One space between words, a blank line between paragraphs."""
    is_html_removed: bool = False


def clean_text(text: str) -> CleanText:
    """Make one text readable.

    >>> clean_text("<p>Acme&nbsp;beats</p><p>Shares <b>rise</b> &amp; fall</p><script>x()</script>").text
    'Acme beats\\n\\nShares rise & fall'
    """
    is_html = False
    if "<" in text or "&" in text:
        text, is_html = _without_html(text)
    if not text.isascii() or not text.isprintable():
        text = _INVISIBLE.sub("", text)
    if "\n" not in text and "\u2029" not in text:
        return CleanText(_SPACE.sub(" ", text).strip(), is_html)
    paragraphs = (_SPACE.sub(" ", part).strip() for part in _PARAGRAPHS.split(text.strip()))
    return CleanText("\n\n".join(part for part in paragraphs if part), is_html)


def _without_html(text: str) -> tuple[str, bool]:
    is_html = False
    for _ in range(_MAX_ROUNDS):
        if _TAG.search(text):
            is_html = True
            # nh3 joins the words of neighbouring paragraphs, so their ends are marked before it.
            text = without_markup(_LESS_THAN.sub("&lt;", _BREAK.sub("\n\n", text)))
        plain = unescape(text)
        if plain == text:
            break
        text = plain
    return (_TAG.sub(" ", text), True) if _TAG.search(text) else (text, is_html)
