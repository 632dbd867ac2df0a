"""What `run articles` leaves in the output folder: the articles, a page to read them, a summary."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine

from pressroom.export import FAILED, Exported, export_batch
from pressroom.page import (
    MAX_PAGE_ARTICLES,
    MAX_PAGE_FAILURES,
    PageArticle,
    PageFailure,
    PageSummary,
    read_provenance,
    render_articles_page,
)
from pressroom.quality import ArticleMetrics, Quality
from pressroom.run import REJECTED
from pressroom.summary import Summary
from storage.store import Store

FILES = "articles"
INDEX = "index.html"
SUMMARY = "summary.json"


def export_articles(database: Engine, store: Store, summary: Summary, out: Path) -> Quality:
    """Write the articles as Markdown and JSON, index.html and summary.json; what the articles came to.

    Holds the page's articles only, however many there are. Raises ArtifactAlteredError or StoreError.
    """
    quality = Quality()
    shown: list[PageArticle] = []
    for exported in export_batch(database, store, summary.batch_id, out, files=FILES):
        metrics = ArticleMetrics.model_validate(exported.result.metrics)
        quality = quality.with_article(metrics)
        if len(shown) < MAX_PAGE_ARTICLES:
            shown.append(_page_article(exported, metrics))
    page_summary = PageSummary(
        run=summary,
        quality=quality,
        failures=tuple(itertools.islice(_failures(out / FAILED), MAX_PAGE_FAILURES)),
        rejected_file=REJECTED if (out / REJECTED).exists() else None,
    )
    (out / INDEX).write_text(render_articles_page(page_summary, shown), encoding="utf-8")
    record = {**summary.as_json(), "quality": quality.as_json()}
    (out / SUMMARY).write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
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
    """What export_batch has just written there."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            failure = json.loads(line)
            yield PageFailure(
                custom_id=failure["id"],
                status=failure["status"],
                error_code=failure["error"]["code"],
                error_message=failure["error"]["message"],
            )
