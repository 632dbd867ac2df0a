"""Prepares a document for analysis: cleans and splits it, detects its language, signs and flags it."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.documents.document import Document
from jobs.guards import INJECTION_SUSPECTED, find_control_token, is_injection_suspected
from jobs.text.clean import HTML_REMOVED, clean_text
from jobs.text.sentences import sentence_spans
from kinds.sentiment.documents.language import LANGUAGE_UNSUPPORTED, SUPPORTED, document_language
from kinds.sentiment.documents.signature import signature

CONTROL_TOKEN = "control_token"  # noqa: S105 (no password: a turn mark of chat formats)
"""Flag for a text with a turn mark of a chat format: it is classified and shown, but put into no prompt."""

Span = tuple[int, int]
"""Begin and end in the text, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A document as the linker and the classifier read it."""

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
    """ISO 639-1."""
    signature: bytes
    flags: tuple[str, ...]
    """Any of html_removed, injection_suspected, control_token and language_unsupported."""

    @property
    def is_supported(self) -> bool:
        """Whether the classifier supports the language; other documents are counted but not classified."""
        return LANGUAGE_UNSUPPORTED not in self.flags


def prepare(document: Document, *, languages: frozenset[str] = frozenset({SUPPORTED})) -> Prepared:
    """Prepare a document, without any model; `languages` are those that the classifier supports."""
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
