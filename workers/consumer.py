"""Celery's message consumer, made to survive every outage of the broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection

from workers.broker import BROKER_ERRORS, consumer_outage, require_queue

logger = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 1.0, 2.0)
"""Wait between a worker's attempts to connect; the last value applies from then on."""


class PatientConsumer(Consumer):
    """Celery's consumer, which waits for a usable broker as long as necessary."""

    def ensure_connected(self, conn: Connection) -> Connection:
        """Return the connection once every queue can be written to; stops when the worker shuts down."""
        num_tries = 0
        while True:
            try:
                conn.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
                channel: Any = conn.default_channel  # of kombu's Redis transport
                for queue in self._queues():
                    require_queue(channel.client, queue)
            except BROKER_ERRORS as error:
                consumer_outage.note(error)
                conn.collect()
            else:
                consumer_outage.end()
                return conn
            _wait(RETRY_SECONDS[min(num_tries, len(RETRY_SECONDS) - 1)])
            num_tries += 1

    def _queues(self) -> Collection[str]:
        return [queue.name for queue in self.app.amqp.queues.consume_from.values()]

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        consumer_outage.note(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        consumer_outage.note(exc)
        super().on_connection_error_after_connected(exc)


def _wait(seconds: float) -> None:
    """Sleep, but stop when the worker shuts down."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        maybe_shutdown()
        time.sleep(0.1)
