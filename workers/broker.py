"""Valkey as the broker: which of its errors are outages, and which commands it must support.

A server that is read-only after a failover, is loading its file, has a full disk or full memory, or has lost
its cluster answers every command with an error. None of these errors is a fault of the client, so the client
waits, as it does after a lost connection. A worker thus keeps its process and its loaded models.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from kombu.exceptions import OperationalError as KombuOperationalError
from redis import Redis
from redis.exceptions import RedisError

from workers.outage import Outage
from workers.redis_server import TIMEOUT_SECONDS

logger = logging.getLogger(__name__)

BROKER_ERRORS = (KombuOperationalError, RedisError, OSError)
"""Errors that Celery, kombu and redis-py raise when a broker is unavailable or refuses to work."""

consumer_outage = Outage(logger, "Valkey", meanwhile="the worker waits and keeps its models and its jobs")
"""Tracks outages of the connection on which this process consumes messages."""

_ABSENT = "no message has this content"
"""The element before which `require_writable` tries to insert; no queue contains it."""


def require_queue(client: Redis, queue: str) -> None:
    """Raise one of BROKER_ERRORS unless the queue can be used.

    A key that has the queue's name but is not a list is renamed first.
    """
    _set_aside(client, queue)
    require_writable(client, queue)


def require_writable(client: Redis, queue: str) -> None:
    """Raise one of BROKER_ERRORS unless messages can be written to the queue now.

    LINSERT before a message that does not exist changes nothing, but is refused like every other write: by a
    replica, when memory is full, after a failed save, or without the permission.
    """
    client.linsert(queue, "BEFORE", _ABSENT, "")


def _set_aside(client: Redis, queue: str) -> None:
    """Rename a key that has the queue's name but is not a list, so was not written by Pressroom."""
    kind = client.type(queue)
    name = kind.decode() if isinstance(kind, bytes) else kind
    if name in ("list", "none"):
        return
    aside = f"{queue}.set-aside-{time.time_ns()}"
    client.renamenx(queue, aside)
    logger.error(
        "A key in Valkey had the name of a queue but was not a list; it was renamed.",
        extra={"key": queue, "type": name, "renamed_to": aside},
    )


def transport_options() -> dict[str, Any]:
    """Return the options of kombu's Redis transport.

    A queue is one list without priorities. Messages being delivered are not kept: a worker acknowledges a
    message on receipt, and the dispatcher and the leases recover jobs that are lost after that.
    """
    return {
        "ack_emulation": False,
        "priority_steps": [0],
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }
