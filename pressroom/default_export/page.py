"""The page that shows the results of a batch of any kind: one HTML file that fetches nothing.

Everything on it was written by a model or a user. The template escapes it, and the page's content security
policy forbids scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.shown import json_text
from pressroom.default_export.table import flattened
from pressroom.pages import Page, PageFailure
from pressroom.summary import Summary

MAX_PAGE_RESULTS = 200
"""Maximum number of results on the page; the tables have all of them."""

MAX_PAGE_CHARACTERS = 6_000
"""Maximum length of one text on the page, in characters; its file has the rest."""

MAX_PAGE_FIGURES = 24
"""Maximum number of metrics shown for one result."""

PAGE = Page(package="pressroom.default_export", template="results.html.jinja", style="results.css")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageResult:
    """One result in the form that the page shows."""

    custom_id: str
    job_id: str
    files: tuple[str, ...]
    media_type: str
    text: str | None
    is_cut: bool
    figures: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, row: Mapping[str, object]) -> PageResult:
        """Return the part of a table row that the page shows."""
        files, metrics, text = row["files"], row["metrics"], row["text"]
        text = text if isinstance(text, str) else None
        figures = flattened(metrics) if isinstance(metrics, Mapping) else ()
        return cls(
            custom_id=str(row["id"]),
            job_id=str(row["job_id"]),
            files=tuple(map(str, files)) if isinstance(files, list) else (),
            media_type=str(row["media_type"]),
            text=None if text is None else text[:MAX_PAGE_CHARACTERS],
            is_cut=text is not None and len(text) > MAX_PAGE_CHARACTERS,
            figures=tuple((name, _figure(value)) for name, value in figures)[:MAX_PAGE_FIGURES],
        )


def render_results_page(
    summary: Summary,
    results: Sequence[PageResult],
    num_results: int,
    failures: Sequence[PageFailure],
    *,
    has_rejected: bool,
) -> str:
    """Return the page as HTML; it states how many results and failures are only in the tables."""
    report = summary.report
    return PAGE.render(
        report.created_at,
        report=report,
        results=results,
        num_results=num_results,
        failures=failures,
        has_rejected=has_rejected,
    )


def _figure(value: object) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return f"{text[:200]}..." if len(text) > 200 else text
