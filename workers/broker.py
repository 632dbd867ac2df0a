"""Valkey as the broker: which of its errors are outages, and what it must be able to do.

A server that is read-only after a failover, loads its file, has a full disk or full memory, or has lost its
cluster answers every command with an error. None of that is a fault of the client: like a lost connection it
is waited for, so that a worker keeps its process and its warm models.
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
"""What a broker that is away, or refuses to work, raises from Celery, kombu and redis-py."""

consumer_outage = Outage(logger, "Valkey", meanwhile="the worker keeps its models and its jobs, and waits")
"""Of the connection on which this process consumes messages."""

_ABSENT = "no message has this content"
"""The place to insert before, in `require_queue`."""


def require_queue(client: Redis, queue: str) -> None:
    """Raise one of BROKER_ERRORS unless the queue can be used; a key of another type is renamed first."""
    _set_aside(client, queue)
    require_writable(client, queue)


def require_writable(client: Redis, queue: str) -> None:
    """Raise one of BROKER_ERRORS unless messages can be written to the queue now.

    LINSERT before a message that does not exist changes nothing, but is refused as every write is: by a
    replica, with a full memory, after a failed save, without the permission.
    """
    client.linsert(queue, "BEFORE", _ABSENT, "")


def _set_aside(client: Redis, queue: str) -> None:
    """Rename a key that is no list and has the queue's name: what wrote it is no part of Pressroom."""
    kind = client.type(queue)
    name = kind.decode() if isinstance(kind, bytes) else kind
    if name in ("list", "none"):
        return
    aside = f"{queue}.set-aside-{time.time_ns()}"
    client.renamenx(queue, aside)
    logger.error(
        "A key of Valkey has the name of a queue and is no list: it was renamed.",
        extra={"key": queue, "type": name, "renamed_to": aside},
    )


def transport_options() -> dict[str, Any]:
    """Return the options of kombu's Redis transport.

    A queue is one list without priorities. Nothing is kept of messages under way: a worker acknowledges on
    receipt, and what it then loses, the lease and the dispatcher bring back.
    """
    return {
        "ack_emulation": False,
        "priority_steps": [0],
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }
