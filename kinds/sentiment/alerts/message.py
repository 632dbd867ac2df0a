"""Messages about alerts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid5

from jobs.shown import json_text
from kinds.sentiment.monitor import Told
from kinds.sentiment.store.deliveries import Delivery, Driver

EVENTS = {Told.RAISED: "alert.raised", Told.WITHDRAWN: "alert.withdrawn"}
"""Event types, in the notation of Standard Webhooks."""


def message_id(delivery: Delivery) -> str:
    """Return an id by which receivers detect repeats: the same at every attempt, different in each turn."""
    turn = f"/{delivery.turn}" if delivery.turn else ""
    return f"msg_{uuid5(delivery.alert_id, delivery.target_name + turn).hex}"


def message_body(delivery: Delivery, drivers: Sequence[Driver]) -> str:
    """Return one JSON object on one line; equal at every attempt as long as its documents are unchanged."""
    return json_text(
        {
            "type": EVENTS[delivery.to_tell],
            "timestamp": _instant(delivery.turned_at or delivery.raised_at),
            "id": message_id(delivery),
            "data": {
                "alert_id": str(delivery.alert_id),
                "monitor": delivery.monitor,
                "entity_id": delivery.entity_id,
                "rule": delivery.rule,
                "window": {"size": delivery.size, "starts_at": _instant(delivery.starts_at)},
                "observed": delivery.observed,
                "expected": delivery.expected,
                "statistic": delivery.statistic,
                "p_value": delivery.p_value,
                "threshold": delivery.threshold,
                "document_ids": list(delivery.document_ids),
                "documents": [
                    {
                        "id": driver.id,
                        "title": driver.title,
                        "source": driver.source,
                        "published_at": _instant(driver.published_at),
                        "sentence": driver.sentence,
                        "score": round(driver.score, 4),
                    }
                    for driver in drivers
                ],
            },
        }
    )


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
