"""Delivers due alerts as messages. Only the notifier that holds a lease delivers; others are on standby."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from uuid import UUID, uuid5

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db.faults import fault_of
from db.session import opened_database
from jobs.errors import PermanentError, PressroomError
from jobs.shown import json_text
from kinds.sentiment.monitor import Notification
from kinds.sentiment.store import deliveries
from kinds.sentiment.store.deliveries import Delivery, Driver
from workers.background import BackgroundPlace, BackgroundThread, background_thread
from workers.connectors.addresses import Resolve, resolve
from workers.delivery import DaemonThreads, FileTarget, WebhookTarget, append_line
from workers.lead import Lead
from workers.outage import Outage
from workers.webhooks import send_webhook

logger = logging.getLogger(__name__)

SESSION_NAME = "pressroom-notifier"

NOTIFIER = "notifier"
"""Role in which one process at a time leads."""

EVENTS = {Notification.RAISED: "alert.raised", Notification.WITHDRAWN: "alert.withdrawn"}
"""Event types, in the notation of Standard Webhooks."""

RETRY_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds to wait after the first, second and further attempts: from 5 s to a day, three days in all, as the
specification of Standard Webhooks recommends. After the last delay one more attempt is made."""

POLL_SECONDS = 2.0
STANDBY_SECONDS = 5.0

LEAD_POLL_SECONDS = 0.25
"""Seconds between polls of a command that waits on standby for its deliveries. The interval is short, because
another command leads only briefly, and a beat delivers due alerts soon."""

MAX_DUE = 200
MAX_DUE_PER_TARGET = 5
"""Maximum numbers of deliveries per round: MAX_DUE in all, and MAX_DUE_PER_TARGET to each target. A slow
target therefore delays the others by only a few of its responses."""

JOIN_SECONDS = 5.0
"""Seconds to wait for the thread to end; the next notifier repeats a hanging delivery, with the same id."""

NUM_THREADS = 8
"""Number of targets served at a time, so that a hanging target delays only itself."""


class Notifier:
    """Delivers alerts; it runs in one thread and sends messages in several more."""

    def __init__(
        self,
        database: Engine,
        *,
        resolver: Resolve = resolve,
        monitor_id: UUID | None = None,
        without: Collection[str] = (),
    ) -> None:
        """Create a notifier for one monitor or, without `monitor_id`, for all.

        Nothing is delivered to the targets in `without`.
        """
        self._database = database
        self._resolver = resolver
        self._monitor_id = monitor_id
        self._without = without
        self._lead = Lead(database, NOTIFIER)
        self._postgres = Outage(logger, "Postgres", meanwhile="alerts stay pending")
        self._counting = threading.Lock()
        self.num_delivered = 0
        """Number of messages that targets have accepted."""

    def run(self, stopped: threading.Event) -> None:
        """Deliver until the event is set, surviving outages of Postgres."""
        with ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="delivery") as pool:
            while not stopped.is_set():
                wait = POLL_SECONDS
                try:
                    if self._lead.is_held():
                        wait = 0.0 if self.deliver_due(pool) else POLL_SECONDS
                    else:
                        wait = STANDBY_SECONDS
                    self._postgres.end()
                except SQLAlchemyError as error:
                    self._postgres.note(error, fault_of(error))
                    wait = STANDBY_SECONDS
                except Exception:
                    logger.exception("A round of deliveries failed.")
                    wait = STANDBY_SECONDS
                stopped.wait(wait)
        self._lead.give_up()

    def run_until_none_is_due(self, timeout_seconds: float) -> None:
        """Deliver for at most `timeout_seconds`; while another notifier leads, wait for it to deliver.

        If a target still hangs after that time, its thread ends with the process, and its message becomes due
        again. Raises SQLAlchemyError.
        """
        ends_at = time.monotonic() + timeout_seconds
        threads = DaemonThreads(NUM_THREADS)
        try:
            while self._due(1) and (seconds := ends_at - time.monotonic()) > 0:
                if self._lead.is_held():
                    self.deliver_due(threads, timeout_seconds=seconds)
                else:
                    time.sleep(min(seconds, LEAD_POLL_SECONDS))
        except TimeoutError:
            logger.info("A target does not respond; its alerts stay pending.")
        finally:
            self._lead.give_up()

    def deliver_due(self, pool: Executor, *, timeout_seconds: float | None = None) -> bool:
        """Make the due deliveries, in order for each target; return False if none was due.

        Raises TimeoutError if they take longer than `timeout_seconds`.
        """
        due = self._due(MAX_DUE)
        by_target = sorted(due, key=_target_of)
        groups = [list(group) for _, group in groupby(by_target, key=_target_of)]
        list(pool.map(self._deliver_in_turn, groups, timeout=timeout_seconds))
        return bool(due)

    def _due(self, limit: int) -> list[Delivery]:
        return deliveries.due_deliveries(
            self._database,
            limit=limit,
            limit_per_target=MAX_DUE_PER_TARGET,
            monitor_id=self._monitor_id,
            without=self._without,
        )

    def _deliver_in_turn(self, group: Sequence[Delivery]) -> None:
        for number, delivery in enumerate(group):
            if not self._deliver(delivery):
                seconds = _retry_seconds(delivery)
                deliveries.postpone(self._database, group[number + 1 :], seconds=seconds)
                return

    def _deliver(self, delivery: Delivery) -> bool:
        """Make one delivery; return False if further deliveries to its target should be postponed."""
        if delivery.notified is delivery.notification:  # the alert changed and changed back in the meantime
            deliveries.end(self._database, delivery)
            return True
        if delivery.is_muted:
            deliveries.end(self._database, delivery, error_code="muted", message="the alert is muted")
            return True
        if delivery.target is None:
            message = f"the monitor no longer has a target {delivery.target_name!r}"
            deliveries.end(self._database, delivery, error_code="target_removed", message=message)
            return True
        if not deliveries.begin_attempt(self._database, delivery, retry_seconds=_retry_seconds(delivery)):
            return True
        try:
            self._send(delivery)
        except PressroomError as error:
            extra = {"alert_id": str(delivery.alert_id), "target": delivery.target_name, "code": error.code}
            logger.warning("An alert could not be delivered.", extra=extra)
            is_refused = isinstance(error, PermanentError)
            self._note(delivery, error.code, str(error), is_final=is_refused)
            return is_refused
        except SQLAlchemyError:
            raise
        except Exception as error:
            logger.exception("A delivery failed.", extra={"alert_id": str(delivery.alert_id)})
            self._note(delivery, "unexpected", f"{type(error).__name__}: {error}")
            return False
        deliveries.record_notification(self._database, delivery)
        with self._counting:
            self.num_delivered += 1
        return True

    def _note(self, delivery: Delivery, code: str, message: str, *, is_final: bool = False) -> None:
        if is_final or delivery.num_attempts >= len(RETRY_SECONDS):
            deliveries.end(self._database, delivery, error_code=code, message=message)
        else:
            deliveries.note_failure(self._database, delivery, error_code=code, message=message)

    def _send(self, delivery: Delivery) -> None:
        body = message_body(delivery, deliveries.drivers(self._database, delivery))
        id_ = message_id(delivery)
        match delivery.target:
            case WebhookTarget() as target:
                send_webhook(target, message_id=id_, body=body, resolver=self._resolver)
            case FileTarget() as target:
                append_line(target, message_id=id_, body=body, is_first=delivery.num_attempts == 0)


@contextmanager
def notify_in_background(place: BackgroundPlace) -> Iterator[BackgroundThread]:
    """Run a notifier in a thread until the block ends. Implements workers.background.BackgroundOpener."""
    with (
        opened_database(place.db_url, application_name=SESSION_NAME) as database,
        background_thread("notifier", Notifier(database).run, join_seconds=JOIN_SECONDS) as thread,
    ):
        yield thread


def _retry_seconds(delivery: Delivery) -> float:
    """Return the seconds from the current attempt to the next one."""
    return RETRY_SECONDS[min(delivery.num_attempts, len(RETRY_SECONDS) - 1)]


def _target_of(delivery: Delivery) -> tuple[str, str]:
    return str(delivery.monitor_id), delivery.target_name


def message_id(delivery: Delivery) -> str:
    """Return an id by which receivers detect repeats: the same at every attempt, different in each turn."""
    turn = f"/{delivery.turn}" if delivery.turn else ""
    return f"msg_{uuid5(delivery.alert_id, delivery.target_name + turn).hex}"


def message_body(delivery: Delivery, drivers: Sequence[Driver]) -> str:
    """Return one JSON object on one line, identical at every attempt if its documents do not change."""
    alert = delivery.alert
    return json_text(
        {
            "type": EVENTS[delivery.notification],
            "timestamp": _instant(delivery.turned_at or delivery.raised_at),
            "id": message_id(delivery),
            "data": {
                "alert_id": str(delivery.alert_id),
                "monitor": delivery.monitor,
                "entity_id": alert.entity_id,
                "rule": alert.rule,
                "window": {"size": alert.size, "starts_at": _instant(alert.starts_at)},
                "observed": alert.observed,
                "expected": alert.expected,
                "statistic": alert.statistic,
                "p_value": alert.p_value,
                "threshold": alert.threshold,
                "document_ids": list(alert.document_ids),
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
