"""The page that shows a batch's articles: one self-contained HTML file, made of what the export wrote.

Everything on it was written by a model or a user: the template escapes, the articles' HTML is sanitised.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_PAGE_ARTICLES = 500
"""Beyond this a page of whole articles takes seconds to open; results.jsonl has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageArticle:
    """One article as the page shows it."""

    custom_id: str
    file_stem: str
    markdown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFailure:
    """One job without an article."""

    custom_id: str
    status: str
    error_code: str | None
    error_message: str | None
