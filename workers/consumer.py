"""The receiving end of the broker: Celery's consumer and transport, made to survive bad messages and outages.

Celery 5.7 and kombu unpack received messages in the main loop without checking them: one bad message ends the
worker, is restored as unacknowledged, and ends the next worker. Here, frames are checked as they are read
from Redis, and bodies before a request is made from them. Refused messages are logged and dropped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from celery import Task
from celery.exceptions import InvalidTaskError
from celery.worker import strategy
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection
from kombu.transport import redis
from kombu.transport.virtual import Base64
from redis.exceptions import RedisError

from workers.broker import BROKER_ERRORS, consumer_outage, require_queue
from workers.redis_server import RedisServer

logger = logging.getLogger(__name__)

SERVER = "server"
"""Name of the transport option that contains the broker's RedisServer."""

NEVER_SENT = ("compression", "eta", "expires")
"""Headers that must be empty, as in the dispatcher's messages: they could allow a decompression bomb, or
delay a message for years."""

_UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
"""Errors that kombu's JSON hooks raise; none of them is a connection error or `Empty`."""


def fault_of_frame(frame: object) -> str | None:
    """Return why kombu or Celery cannot accept this frame as a message, or None if they can."""
    if not isinstance(frame, dict):
        return "it is not an object"
    properties, headers = frame.get("properties"), frame.get("headers")
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        return "it lacks properties or headers"
    delivery = properties.get("delivery_info")
    if not isinstance(delivery, dict) or not _all_ascii(delivery, "exchange", "routing_key"):
        return "its delivery_info is malformed"
    if not _all_ascii(properties, "delivery_tag") or properties.get("body_encoding") != "base64":
        return "its properties are malformed"
    if not _all_ascii(headers, "task", "id"):
        return "its headers lack a task or an id"
    if not _all_ascii(frame, "body", "content-type", "content-encoding"):
        return "its body or its content type is not text"
    try:
        Base64().decode(frame["body"])
    except ValueError:
        return "its body is not base64"
    return None


def _all_ascii(fields: dict[Any, Any], *names: str) -> bool:
    return all(isinstance(value := fields.get(name), str) and value.isascii() for name in names)


def fault_of_task(headers: dict[str, Any], body: object) -> str | None:
    """Return why this is not a task call that the dispatcher could have sent, or None if it is one."""
    if any(headers.get(name) is not None for name in NEVER_SENT):
        return f"a header of {', '.join(NEVER_SENT)} is set"
    if headers.get("timelimit") not in (None, [None, None]):
        return "a time limit is set"
    if not isinstance(body, list | tuple) or [type(part) for part in body] != [list, dict, dict]:
        return "the body is not [args, kwargs, embed]"
    if any(body[2].values()):
        return "it requests callbacks"
    return None


class CheckedTask(Task):  # type: ignore[type-arg]  # generic in the stubs alone
    """The base class of every task of the app, including Celery's own."""

    Strategy = "workers.consumer:checked_strategy"


def checked_strategy(task: object, app: object, consumer: object) -> Callable[..., object]:
    """Return Celery's default strategy, guarded so that it only receives what it can unpack."""
    handle = strategy.default(task, app, consumer)

    def handle_checked(message: Any, body: object, *rest: object) -> object:
        # a body that is already decoded came in the first protocol, which the dispatcher does not use
        fault = fault_of_task(message.headers, message.payload) if body is None else "protocol 1"
        if fault is not None:
            raise InvalidTaskError(f"refused: {fault}")  # the consumer logs it and rejects it permanently
        return handle(message, body, *rest)

    return handle_checked


class Channel(redis.Channel):
    """Kombu's Redis channel, which also drops unreadable messages.

    A dropped message has already left the queue and is in no list of unacknowledged messages, so it is not
    delivered again.
    """

    connection: Transport

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Return the connection's parameters.

        The URL is read in the same way as for every other client; kombu would parse it differently.
        """
        broker: Any = self.connection.client
        server: RedisServer = broker.transport_options[SERVER]
        self.connection_class = server.connection_class
        parameters: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]  # the stubs lack it
        if server.socket_path is not None:
            for name in ("host", "port", "socket_keepalive", "socket_keepalive_options"):
                parameters.pop(name, None)
        return parameters | server.parameters()

    def _brpop_read(self, **options: object) -> object:
        self.connection.frame_was_read = False
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except _UNREADABLE as error:
            if self.connection.frame_was_read:
                raise  # an error that Celery raised while it handled a message
            logger.error("A frame that is not a message was dropped.", extra={"reason": type(error).__name__})
            return True


class Transport(redis.Transport):
    """Kombu's Redis transport, which delivers only well-formed messages.

    Any error that the server answers is treated as temporary: with kombu's own list, a worker ends when a
    server is read-only, or its disk or memory is full.
    """

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, RedisError)
    frame_was_read = False

    def _deliver(self, message: Any, queue: str | None) -> None:
        self.frame_was_read = True
        fault = fault_of_frame(message)
        if fault is not None:
            logger.error("A frame that is not a message was dropped.", extra={"reason": fault})
            return
        super()._deliver(message, queue)


RETRY_SECONDS = (0.5, 1.0, 2.0)
"""Waits between a worker's attempts to connect, in order; the last value applies to all further attempts."""


class PatientConsumer(Consumer):
    """Celery's consumer, which waits for a usable broker as long as necessary."""

    def ensure_connected(self, conn: Connection) -> Connection:
        """Return the connection once every queue can be written to, unless the worker shuts down first."""
        num_tries = 0
        while True:
            try:
                conn.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
                channel: Any = conn.default_channel  # a channel of kombu's Redis transport
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
