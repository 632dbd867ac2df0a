"""The page of an OpenAI batch file: what each line requested, and what it got."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from jobs.inference import RawPrompt
from kinds.prompt.openai.lines import EMBEDDINGS, BlockLine, LineRequest
from pressroom.pages import Page
from pressroom.summary import Summary

MAX_PAGE_LINES = 200
"""Maximum number of lines on the page; the files have all of them."""

MAX_SHOWN_CHARACTERS = 2_000
"""Maximum length of a turn or a text on the page."""

MAX_SHOWN_TURNS = 12
"""Maximum number of turns, or of embedded texts, that the page shows of a line."""

PAGE = Page(package="kinds.prompt", template="lines.html.jinja", style="lines.css")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLine:
    """One line in the form that the page shows."""

    custom_id: str
    url: str
    """Endpoint of the line; empty for a line that was refused."""
    model: str
    turns: tuple[tuple[str, str], ...]
    """Role and content of the first turns of the prompt, or the first texts that were embedded."""
    answers: tuple[str, ...]
    """Texts that were generated, or the number of embeddings."""
    error: tuple[str, str] | None
    """Code and message of the error; None for a line in the output file."""

    @classmethod
    def of(cls, line: BlockLine, answers: Sequence[str], error: tuple[str, str] | None) -> PageLine:
        """Return a line that has ended with these answers or with this error."""
        texts = tuple(map(_cut, answers))
        if not isinstance(line, LineRequest):
            return cls(custom_id=_cut(line.custom_id), url="", model="", turns=(), answers=texts, error=error)
        return cls(
            custom_id=_cut(line.custom_id),
            url=line.url,
            model=line.model,
            turns=tuple((role, _cut(text)) for role, text in islice(_turns(line), MAX_SHOWN_TURNS)),
            answers=texts,
            error=error,
        )


def _turns(line: LineRequest) -> Iterator[tuple[str, str]]:
    """Yield the role and the content of each turn of a chat, or the texts of another line."""
    if line.url == EMBEDDINGS:
        yield from (("input", text) for text in line.embedding_body().input)
        return
    for prompt in line.text_body().prompts:
        if isinstance(prompt, RawPrompt):
            yield "prompt", prompt.text
        else:
            yield from ((message.role, message.content) for message in prompt.messages)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]} ..."


def render_lines_page(
    summary: Summary,
    lines: Sequence[PageLine],
    *,
    num_completed: int,
    num_errors: int,
    has_rejected: bool,
) -> str:
    """Return the page as HTML, with a note if it does not show all lines."""
    return PAGE.render(
        summary.report.created_at,
        summary=summary,
        report=summary.report,
        lines=lines,
        num_completed=num_completed,
        num_errors=num_errors,
        has_rejected=has_rejected,
    )
