"""Converts text from outside to plain text, without markup, character references or invisible characters.

The running time is proportional to the length of a text, no matter what it contains.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from itertools import pairwise

import nh3

_REFERENCE = re.compile(r"&#(?:(?P<decimal>[0-9]++)|[xX](?P<hex>[0-9a-fA-F]++));?")
_MAX_DIGITS = 7
"""Maximum number of digits of a character reference: the last character, U+10FFFF, is 1114111 in decimal.
HTML replaces larger numbers with U+FFFD (HTML, section 13.2.5.80)."""
_REPLACEMENT = "\ufffd"


def unescape(text: str) -> str:
    """Unescape like html.unescape, but without its ValueError for a number of more than 4,300 digits.

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


_TAG_START = re.compile(r"<[A-Za-z/!?]")
_MAX_TAGS = 2_000
"""Maximum number of tags that are parsed together. The parser searches all open elements, so its running time
grows with the square of their number."""


def without_markup(text: str) -> str:
    """Remove tags and scripts from HTML. In the result, `<` and `&` are still escaped.

    A text with thousands of tags is parsed in pieces. If this splits a script, its second part becomes text.

    >>> without_markup("<b>Bread</b> &amp; <script>x()</script>butter")
    'Bread &amp; butter'
    """
    tags = [match.start() for match in _TAG_START.finditer(text)]
    cuts = [0, *tags[_MAX_TAGS::_MAX_TAGS], len(text)]
    return "".join(nh3.clean(text[begin:end], tags=set()) for begin, end in pairwise(cuts))


HTML_REMOVED = "html_removed"

_TAG = re.compile(
    r"</?(?:a|abbr|article|aside|b|blockquote|body|br|center|cite|code|dd|del|div|dl|dt|em|embed|figcaption|figure"
    r"|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|li|link|main|mark|meta|nav|noscript|object"
    r"|ol|option|p|pre|q|s|script|section|select|small|source|span|strong|style|sub|sup|svg|table|tbody|td|textarea"
    r"|tfoot|th|thead|time|title|tr|u|ul|video)(?=[\s/>])[^<>]{0,2000}>|<!--|<!doctype|<\?xml|<script",
    re.IGNORECASE,
)
"""Matches what is certainly markup. It does not match "P<E ratio" or "<3", which are not markup, although a
parser would drop the text after them."""

_BREAK = re.compile(
    r"</?(?:address|article|aside|blockquote|dd|div|dl|dt|figcaption|figure|footer|h[1-6]|header|hr|li|main|ol|p|pre"
    r"|section|table|td|th|tr|ul)(?=[\s/>])[^<>]{0,2000}>|<br[^<>]{0,200}>",
    re.IGNORECASE,
)
_LESS_THAN = re.compile(r"<(?![A-Za-z/!?])")
_INVISIBLE = re.compile(
    "[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""Matches control and format characters, which may hide a name ("Ac\u00adme") or change the writing
direction."""

_PARAGRAPHS = re.compile(r"(?<!\s)\s*\n\s*\n\s*|[\u2029]")
_SPACE = re.compile(r"\s+")
_MAX_ROUNDS = 3
"""Maximum number of passes, each of which removes one level of escaping. Feeds escape HTML once or, by
mistake, twice; the third pass is a reserve."""


@dataclass(frozen=True, slots=True)
class CleanText:
    """A plain text, and whether markup was removed from it."""

    text: str
    """Text with one space between words and a blank line between paragraphs."""
    is_html_removed: bool = False


def clean_text(text: str) -> CleanText:
    """Remove markup and invisible characters from a text, and normalise its white space.

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
            # nh3 would join the words of neighbouring paragraphs, so paragraph breaks are inserted first.
            text = without_markup(_LESS_THAN.sub("&lt;", _BREAK.sub("\n\n", text)))
        plain = unescape(text)
        if plain == text:
            break
        text = plain
    return (_TAG.sub(" ", text), True) if _TAG.search(text) else (text, is_html)


MAX_POST_CHARACTERS = 20_000
"""Length at which a post is cut: far more than any classifier reads."""

_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\b(?:AT_USER|URL)\b|<(?:user|url)>")
"""Matches placeholders for names and links in public data sets."""
_HANDLE = re.compile(r"(?<![\w.])[@#](?=\w)")
_CASHTAG = re.compile(r"(?<![\w$])\$(?=[A-Za-z]{1,6}(?:\.[A-Za-z]{1,2})?\b)")
_ELLIPSIS = re.compile(r"…|\.{2,}")


def normalise(text: str) -> str:
    """Normalise a post to the form that classifiers are trained on. Normalising twice changes nothing.

    Links are removed, `$AAPL`, `#oil` and `@user` become plain words, and HTML entities become characters.

    >>> normalise("$AAPL beats &amp; raises... https://t.co/x  #stocks")
    'AAPL beats & raises stocks'
    """
    text = unescape(unescape(text[:MAX_POST_CHARACTERS]))
    for pattern in (_LINK, _PLACEHOLDER, _ELLIPSIS):
        text = pattern.sub(" ", text)
    for pattern in (_HANDLE, _CASHTAG):
        text = pattern.sub("", text)
    return _SPACE.sub(" ", text).strip()
