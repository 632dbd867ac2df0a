"""Describes a recommender's run for `pressroom status`."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine

from db.batches import batch_settings
from jobs.batch import BatchStatusReport
from kinds.recommendation.payload import RecommendationSettings
from pressroom.describers import Describer, Line


class RecommendationDescriber(Describer):
    """Names the recommender of a batch; jobs are described by their counts."""

    def describe_batch(self, database: Engine, report: BatchStatusReport) -> Iterable[Line]:
        """Yield the recommender, and whether the run only plans."""
        settings = RecommendationSettings.model_validate(batch_settings(database, report.batch_id))
        yield "recommender", settings.recommender + (", plan only" if settings.plan_only else "")
