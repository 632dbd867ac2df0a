"""The Celery app, which only signals that there is work.

Messages carry only ids, and Redis contains nothing that is not also in Postgres. `pressroom worker` starts
`celery -A workers.celery` with its device pinned; this module never imports torch.
"""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery
from celery.app.amqp import AMQP
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown, worker_shutting_down

import workers.process as process
from workers.broker import transport_options
from workers.consumer import SERVER
from workers.redis_server import RedisServer
from workers.settings import read_settings

RUN_SHARD = "pressroom.run_shard"
RUN_ALONE = "pressroom.run_alone"


class _DirectQueues(AMQP):
    """Sends each message to the queue that it names, so that Redis keeps no routes, which others could
    change."""

    autoexchange = staticmethod(lambda _name: None)  # type: ignore[assignment]  # Celery expects a function


def make_app(redis_url: Callable[[], str]) -> Celery:
    """Return an app on this broker; the URL is read on first use, not at import."""
    app = Celery(
        "pressroom",
        include=["workers.tasks"],
        set_as_current=False,
        amqp=_DirectQueues,
        task_cls="workers.consumer:CheckedTask",
    )
    app.add_defaults(lambda: _configuration(RedisServer.from_url(redis_url())))
    app.on_after_finalize.connect(_forget_built_in_tasks)
    return app


def _forget_built_in_tasks(sender: Celery, **_: object) -> None:
    """Remove Celery's own tasks, unless remote control is on.

    They can call other tasks any number of times, which anyone who can reach the queue could exploit.
    """
    if not read_settings().remote_control:
        for name in [name for name in sender.tasks if name.startswith("celery.")]:
            del sender.tasks[name]


def _configuration(server: RedisServer) -> dict[str, object]:
    return {
        "broker_url": server.broker_url(),
        "broker_transport": "workers.consumer:Transport",
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        "task_acks_late": False,  # jobs are recovered by their lease, not by the broker
        "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": read_settings().remote_control,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # even a broker that was away for an hour may come back
        "broker_transport_options": {SERVER: server, **transport_options()},
        "worker_consumer": "workers.consumer:PatientConsumer",
        # None of our tasks acknowledges late, so none is cancelled; if unset, Celery warns at each outage.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
    }


app = make_app(lambda: read_settings().require_redis_url())


@setup_logging.connect
def _set_up_logging(**_: object) -> None:
    process.set_up_logging()


@worker_init.connect
def _start(**_: object) -> None:
    """Start the worker process in the main thread, so that its models are loaded before it consumes a
    message."""
    process.start()


@worker_ready.connect
def _ready(**_: object) -> None:
    process.ready()


@worker_shutting_down.connect
def _drain(**_: object) -> None:
    process.drain()


@worker_shutdown.connect
def _stop(**_: object) -> None:
    process.stop()
