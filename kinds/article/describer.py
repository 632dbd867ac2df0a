"""The description of an article in `pressroom show`."""

from __future__ import annotations

from collections.abc import Iterable

from db.reports import JobDetail
from kinds.article.quality import ArticleMetrics
from pressroom.describers import Describer, Line


class ArticleDescriber(Describer):
    """Describes an article by its title, length and repetition."""

    def describe_job(self, detail: JobDetail) -> Iterable[Line]:
        """Yield the title, the length and the repetition; nothing for a job without an article."""
        if not detail.result.metrics:
            return
        metrics = ArticleMetrics.model_validate(detail.result.metrics)
        yield "title", metrics.title
        yield "length", f"{metrics.num_words} words of {metrics.requested_words} requested"
        yield "repetition", f"{metrics.repetition:.2f}"
