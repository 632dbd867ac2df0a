"""The description of a batch of documents in `pressroom status`."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine

from db.batches import batch_settings
from jobs.batch import BatchStatusReport
from kinds.sentiment.payload import SentimentSettings
from kinds.sentiment.store.monitors import MonitorNotFoundError, get_monitor
from pressroom.describers import Describer, Line


class SentimentDescriber(Describer):
    """Describes a batch by its monitor; jobs are described only by their counts."""

    def describe_batch(self, database: Engine, report: BatchStatusReport) -> Iterable[Line]:
        """Yield the monitor whose history the batch extends; nothing if the monitor was removed."""
        settings = SentimentSettings.model_validate(batch_settings(database, report.batch_id))
        try:
            monitor = get_monitor(database, settings.monitor_id)
        except MonitorNotFoundError:
            return
        yield "monitor", f"{monitor.name}, {settings.num_entities} entities"
