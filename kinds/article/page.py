"""The page that shows a batch's articles: one self-contained HTML file that fetches nothing.

All texts on the page were written by a model or a user, so the template escapes them. The articles' HTML is
made from Markdown without raw HTML and then sanitised. The content security policy allows only the page's own
script.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

from jobs.provenance import PREDICATE_TYPE
from jobs.shown import printable_lines
from jobs.text.language import language_name
from jobs.text.prose import LENGTH_TOLERANCE, MAX_REPETITION
from kinds.article.quality import ArticleMetrics, Quality
from pressroom.pages import Page, PageFailure
from pressroom.summary import Summary

MAX_PAGE_ARTICLES = 500
"""Maximum number of articles on the page. With the maximum length of 1,500 words, 500 articles take 6 MB,
which a browser still opens easily."""

SHORT_DIGEST = 16
"""Number of hexadecimal digits shown of a digest, enough to tell digests apart; the JSON file contains all
digits."""

PAGE = Page(
    package="kinds.article",
    template="articles.html.jinja",
    style="articles.css",
    script="articles.js",
    filters={"language": language_name},
)

_TAGS = {
    *("p", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "hr", "br", "em", "strong", "code", "pre"),
    *("a", "table", "thead", "tbody", "tr", "th", "td"),
}
"""HTML elements that Markdown produces, without images, because the page fetches nothing."""

_HEADINGS = {"h1": "h3", "h2": "h3", "h3": "h4", "h4": "h5", "h5": "h6", "h6": "h6"}
"""Levels of an article's headings on the page; they start at h3, because the article's title is an h2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The part of an article's provenance statement that is most relevant to readers."""

    model: str
    revision: str
    weights_sha256: str
    engine: str
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    num_calls: int
    sampling: str
    seed: int
    template: str
    attempt: int
    worker: str
    task: str
    started_at: datetime
    finished_at: datetime
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageArticle:
    """One article in the form that the page shows."""

    custom_id: str
    job_id: str
    anchor: str
    """Anchor of the article, unique on the page: its file name without the suffix."""
    markdown: str
    """The artifact, including front matter and title."""
    metrics: ArticleMetrics
    provenance: Provenance | None
    """Provenance of the article; None if its statement is absent or of a different version."""
    file: str
    """Path of the Markdown file, relative to the page."""
    json_file: str

    @property
    def html(self) -> Markup:
        """Return the body as HTML that is safe to show."""
        return article_html(self.markdown)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return the names of the requirements that the article does not meet; readers can filter by them."""
        metrics = self.metrics
        named = {
            "length": not metrics.is_within_length,
            "repetition": not metrics.is_within_repetition,
            "language": not metrics.is_requested_language,
            "flagged": bool(metrics.flags),
        }
        return tuple(name for name, holds in named.items() if holds)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSummary:
    """The page's data about the whole batch."""

    run: Summary
    quality: Quality
    failures: Sequence[PageFailure]
    """The first MAX_PAGE_FAILURES failures."""
    rejected_file: str | None
    """Name of the file of refused lines beside the page; None if no line was refused."""


def render_articles_page(summary: PageSummary, articles: Sequence[PageArticle]) -> str:
    """Return the page as HTML, with at most MAX_PAGE_ARTICLES articles and a note if there are more."""
    return PAGE.render(
        summary.run.report.created_at,
        summary=summary,
        report=summary.run.report,
        articles=articles[:MAX_PAGE_ARTICLES],
        num_remarks=_num_remarks(articles[:MAX_PAGE_ARTICLES]),
        tolerance=LENGTH_TOLERANCE,
        bound=MAX_REPETITION,
        short_digest=SHORT_DIGEST,
    )


def article_html(markdown: str) -> Markup:
    """Return an article's body as safe HTML without front matter, title, raw HTML, images or scripts.

    >>> article_html('---\\ntitle: "T"\\n---\\n\\n# T\\n\\nBread *needs* time.')
    Markup('<p>Bread <em>needs</em> time.</p>\\n')
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(without_front_matter(markdown))
    if tokens and tokens[0].tag == "h1":
        tokens = tokens[3:]  # the heading's opening, text and end
    for token in tokens:
        token.tag = _HEADINGS.get(token.tag, token.tag)
    html = parser.renderer.render(tokens, parser.options, {})
    plain = nh3.clean(html, tags=_TAGS, url_schemes={"http", "https", "mailto"})
    return Markup(printable_lines(plain))  # noqa: S704


def without_front_matter(markdown: str) -> str:
    """Return the text without its YAML front matter, if it has any.

    >>> without_front_matter('---\\ntitle: "T"\\n---\\n\\nText'), without_front_matter("--- no block")
    ('Text', '--- no block')
    """
    opening, closing = "---\n", "\n---\n"
    end = markdown.find(closing)
    if not markdown.startswith(opening) or end < 0:
        return markdown
    return markdown[end + len(closing) :].lstrip("\n")


def read_provenance(statement: bytes | None) -> Provenance | None:
    """Return the part of a provenance statement that readers see.

    Return None if there is no statement, it is of a different version, or its job called no model.
    """
    parsed = {} if statement is None else json.loads(statement)
    if parsed.get("predicateType") != PREDICATE_TYPE or not parsed["predicate"]["generations"]:
        return None
    predicate = parsed["predicate"]
    model, engine, usage, job = (predicate[name] for name in ("model", "engine", "usage", "job"))
    sampling = predicate["generations"][0]["sampling"]
    return Provenance(
        model=model["name"],
        revision=model["revision"],
        weights_sha256=model["weightsSha256"],
        engine=_engine(engine),
        prompt_tokens=usage["promptTokens"],
        cached_tokens=usage["cachedTokens"],
        new_tokens=usage["newTokens"],
        num_calls=len(predicate["generations"]),
        sampling=f"temperature {sampling['temperature']}, top-p {sampling['topP']}",
        seed=sampling["seed"],
        template=f"{predicate['prompt']['template']} {predicate['prompt']['version']}",
        attempt=job["attempt"],
        worker=predicate["worker"]["id"],
        task=predicate["worker"]["celeryTaskId"],
        started_at=datetime.fromisoformat(predicate["timings"]["startedAt"]),
        finished_at=datetime.fromisoformat(predicate["timings"]["finishedAt"]),
        code=f"pressroom {predicate['code']['version']}",
    )


def _engine(engine: Mapping[str, object]) -> str:
    return f"{engine['name']}, {engine['dtype']} on {engine['device']}"


def _num_remarks(articles: Sequence[PageArticle]) -> dict[str, int]:
    """Return how many articles each filter would show; filters without articles are omitted."""
    names = [name for article in articles for name in article.remarks]
    return {
        name: names.count(name) for name in ("length", "repetition", "language", "flagged") if name in names
    }
