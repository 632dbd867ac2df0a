"""Delivers the alerts of a manual run before the command ends, because `pressroom beat` may not be
running."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db.batches import batch_settings
from jobs.batch import BatchStatus
from kinds.sentiment.alerts.notifier import Notifier
from kinds.sentiment.export import export_sentiment
from kinds.sentiment.export_files import SentimentFigures
from kinds.sentiment.payload import SentimentSettings
from kinds.sentiment.store.deliveries import num_waiting
from kinds.sentiment.store.monitors import get_monitor
from pressroom.console import say
from pressroom.summary import Summary
from storage.store import Store
from workers.delivery import STDOUT, FileTarget, Target, WebhookTarget

MAX_SECONDS = 30.0
"""Maximum seconds for deliveries. A hanging webhook fails after 20, so its failure can still be recorded."""


def export_and_deliver(
    database: Engine, store: Store, summary: Summary, out: Path, *, json: bool
) -> SentimentFigures:
    """Write the results as `export_sentiment` does and, if the batch has ended, deliver the due alerts.

    With `json`, stdout is reserved for the command's single JSON object.
    """
    figures = export_sentiment(database, store, summary, out)
    if summary.report.status is not BatchStatus.RUNNING:
        settings = SentimentSettings.model_validate(batch_settings(database, summary.batch_id))
        deliver_alerts(database, settings.monitor_id, json=json)
    return figures


def deliver_alerts(
    database: Engine, monitor_id: UUID, *, json: bool, max_seconds: float = MAX_SECONDS
) -> None:
    """Deliver the due alerts of the monitor and report the outcome; Ctrl-C ends only the deliveries.

    Targets whose secrets are missing in this environment are left out, because a futile attempt would use up
    one of a delivery's few attempts. Failed deliveries become due again.
    """
    try:
        targets = get_monitor(database, monitor_id).targets
        excluded = [target.name for target in targets if not _is_deliverable(target, json=json)]
        notifier = Notifier(database, monitor_id=monitor_id, without=excluded)
        notifier.run_until_none_is_due(max_seconds)
        waiting = num_waiting(database, monitor_id)
    except SQLAlchemyError:
        say("Postgres is unavailable; `pressroom up` or `pressroom beat` will deliver the pending alerts.")
        return
    except KeyboardInterrupt:
        say("Interrupted; `pressroom up` or `pressroom beat` will deliver the pending alerts.")
        return
    if notifier.num_delivered or waiting:
        rest = f", {waiting} waiting for `pressroom up` or `pressroom beat`" if waiting else ""
        say(f"Alert deliveries: {notifier.num_delivered} completed{rest}")


def _is_deliverable(target: Target, *, json: bool) -> bool:
    match target:
        case FileTarget():
            return not json or target.path != STDOUT
        case WebhookTarget():
            variables = (target.secret_variable, target.url_variable)
            return all(os.environ.get(variable) for variable in variables if variable is not None)
