"""The export of `run articles`: the articles, a page to read them, and a summary in the output folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from sqlalchemy import Engine

from db.reports import JobResult
from jobs.shown import json_text
from kinds.article.page import (
    MAX_PAGE_ARTICLES,
    PageArticle,
    PageSummary,
    read_provenance,
    render_articles_page,
)
from kinds.article.quality import ArticleMetrics, Quality
from pressroom.export import (
    INDEX,
    RESULTS,
    SUMMARY,
    file_stem,
    keeps_results,
    listed_files,
    staged_export,
    write_failures,
)
from pressroom.pages import PageFailure, page_failures
from pressroom.results import Result, ResultReader
from pressroom.run import REJECTED
from pressroom.summary import Summary
from storage.store import Store

FILES = "articles"

_LISTED = re.compile(rf"{FILES}/[A-Za-z0-9_-]+\.[a-z0-9]+")
"""Pattern of an article's path in results.jsonl; file_stem() produces only these characters."""


def export_articles(database: Engine, store: Store, summary: Summary, out: Path) -> Quality:
    """Write the articles as Markdown and JSON, the lists of articles and failures, the page and the summary.

    Returns the articles' quality. Only the articles on the page are kept in memory. If the batch has no
    articles, the results of another batch in the folder are kept. An article that does not match its
    provenance is left out and listed in `summary.altered`. Raises StoreError, DiskFullError or
    ConfigurationError.
    """
    quality = Quality()
    if keeps_results(summary, out, "article"):
        return quality
    shown: list[PageArticle] = []
    reader = ResultReader(database, store, summary.leave_out)
    with staged_export(out, summary.batch_id, earlier=_earlier_files(out)) as folder:
        for result, file in _write_articles(reader, summary, folder):
            metrics = ArticleMetrics.model_validate(result.job.metrics)
            quality = quality.with_article(metrics)
            if len(shown) < MAX_PAGE_ARTICLES:
                shown.append(_page_article(result, metrics, file))
        failures = map(PageFailure.of, write_failures(database, summary.batch_id, folder))
        page_summary = PageSummary(
            run=summary,
            quality=quality,
            failures=page_failures(summary, failures),
            rejected_file=REJECTED if (out / REJECTED).exists() else None,
        )
        (folder / INDEX).write_text(render_articles_page(page_summary, shown), encoding="utf-8")
        record = {**summary.as_json(), "quality": quality.as_json()}
        (folder / SUMMARY).write_text(json_text(record, indent=2) + "\n", encoding="utf-8")
    return quality


def _earlier_files(out: Path) -> Iterator[str]:
    """Yield the paths of the articles that an earlier results.jsonl lists, and of their JSON files."""
    for name in listed_files(out / RESULTS, _LISTED):
        yield name
        yield str(Path(name).with_suffix(".json"))


def _write_articles(
    reader: ResultReader, summary: Summary, folder: Path
) -> Iterator[tuple[Result[JobResult], Path]]:
    """Write results.jsonl and the files of each article; yield each article with the path of its Markdown."""
    (folder / FILES).mkdir()
    with (folder / RESULTS).open("w", encoding="utf-8") as lines:
        for result in reader.read_batch(summary.batch_id):
            name = file_stem(result.job.custom_id) + Path(result.evidence.artifacts[0].name).suffix
            file = Path(FILES) / name
            _write_article(result, folder, file, lines)
            yield result, file


def _write_article(result: Result[JobResult], folder: Path, file: Path, lines: TextIO) -> None:
    job, body = result.job, result.bodies[0]
    record = {
        "id": job.custom_id,
        "job_id": str(job.job_id),
        "file": str(file),
        "sha256": result.evidence.artifacts[0].sha256,
        "attempt": job.attempt,
        "metrics": dict(job.metrics),
        "usage": asdict(result.evidence.usage),
    }
    whole = {**record, "text": body.decode(), "provenance": json.loads(result.statement)}
    (folder / file).write_bytes(body)
    (folder / file.with_suffix(".json")).write_text(json_text(whole, indent=2) + "\n", encoding="utf-8")
    lines.write(json_text(record) + "\n")


def _page_article(result: Result[JobResult], metrics: ArticleMetrics, file: Path) -> PageArticle:
    return PageArticle(
        custom_id=result.job.custom_id,
        job_id=str(result.job.job_id),
        anchor=file.stem,
        markdown=result.bodies[0].decode(),
        metrics=metrics,
        provenance=read_provenance(result.statement),
        file=str(file),
        json_file=str(file.with_suffix(".json")),
    )
