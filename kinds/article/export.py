"""The export of `run articles`: the articles, a page to read them, and a summary in the output folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine

from jobs.shown import json_text
from kinds.article.page import (
    MAX_PAGE_ARTICLES,
    PageArticle,
    PageSummary,
    read_provenance,
    render_articles_page,
)
from kinds.article.quality import ArticleMetrics, Quality
from pressroom.console import say
from pressroom.export import (
    FAILED,
    INDEX,
    SUMMARY,
    Exported,
    export_batch,
    export_errors,
    holds_another_batch,
)
from pressroom.output import replace_text
from pressroom.pages import PageFailure, page_failures
from pressroom.run import REJECTED
from pressroom.summary import Summary
from storage.store import Store

FILES = "articles"


def export_articles(database: Engine, store: Store, summary: Summary, out: Path) -> Quality:
    """Write the articles as Markdown and JSON, index.html and summary.json; return the articles' quality.

    Only the articles on the page are kept in memory. A batch without articles leaves the results of another
    batch in place. An article whose evidence does not match is left out and listed in `summary.altered`.
    Raises StoreError, DiskFullError or ConfigurationError.
    """
    quality = Quality()
    if not summary.report.counts.succeeded and holds_another_batch(out, summary.batch_id):
        say(
            f"Batch {summary.batch_id} has no article yet, and {out} holds another batch: its results "
            f"are left as they are. For the failures: pressroom results {summary.batch_id} --out DIR"
        )
        return quality
    shown: list[PageArticle] = []
    with closing(
        export_batch(database, store, summary.batch_id, out, files=FILES, on_altered=summary.leave_out)
    ) as results:
        for exported in results:
            metrics = ArticleMetrics.model_validate(exported.result.metrics)
            quality = quality.with_article(metrics)
            if len(shown) < MAX_PAGE_ARTICLES:
                shown.append(_page_article(exported, metrics))
    with export_errors(out, summary.batch_id):
        page_summary = PageSummary(
            run=summary,
            quality=quality,
            failures=page_failures(summary, _failures(out / FAILED)),
            rejected_file=REJECTED if (out / REJECTED).exists() else None,
        )
        replace_text(out / INDEX, render_articles_page(page_summary, shown))
        record = {**summary.as_json(), "quality": quality.as_json()}
        replace_text(out / SUMMARY, json_text(record, indent=2) + "\n")
    return quality


def _page_article(exported: Exported, metrics: ArticleMetrics) -> PageArticle:
    file = Path(FILES) / exported.file_name
    return PageArticle(
        custom_id=exported.result.custom_id,
        job_id=str(exported.result.job_id),
        anchor=file.stem,
        markdown=exported.body.decode(),
        metrics=metrics,
        provenance=read_provenance(exported.result.statement),
        file=str(file),
        json_file=str(file.with_suffix(".json")),
    )


def _failures(path: Path) -> Iterator[PageFailure]:
    """Yield the failures that export_batch has just written to failed.jsonl."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            failure = json.loads(line)
            yield PageFailure(
                custom_id=failure["id"],
                status=failure["status"],
                error_code=failure["error"]["code"],
                error_message=failure["error"]["message"],
            )
