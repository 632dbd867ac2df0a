"""Health checks for containers: `python -m pressroom.health [services|worker|dispatcher|beat]`.

The exit status is 0 without output if healthy, 1 with a sentence on stderr if not, and 2 for an unknown role.
"""

from __future__ import annotations

import socket
import sys
from enum import StrEnum

from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from db import leads
from db.dispatch import ALIVE_SECONDS
from db.faults import named
from db.migrate import revisions
from db.session import open_database
from db.workers import num_ready_workers
from jobs.errors import PressroomError
from storage import open_store
from workers.broker import require_writable
from workers.preflight import broker_error
from workers.redis_server import RedisServer
from workers.settings import Settings, read_settings


class Role(StrEnum):
    """Role of the container's process; the docstring of each role states when the container is healthy."""

    SERVICES = "services"
    """The database is migrated, and Redis and S3 answer; no process of Pressroom is checked."""
    WORKER = "worker"
    """A worker process of this host is alive and its models are loaded."""
    DISPATCHER = "dispatcher"
    """The dispatcher on this host is active or on standby."""
    BEAT = "beat"
    """The beat on this host is active or on standby."""


LEADS = {Role.DISPATCHER: leads.DISPATCHER, Role.BEAT: leads.BEAT}
"""Names of the leader elections, by the role of the processes that take part."""


def find_fault(settings: Settings, role: Role) -> str | None:
    """Return what is wrong with this container in its role, or None if it is healthy."""
    database = open_database(settings.require_db_url(), pool_size=1, application_name="pressroom-health")
    try:
        if role is Role.WORKER:
            ready = num_ready_workers(database, socket.gethostname(), max_silence_seconds=ALIVE_SECONDS)
            return None if ready else "no worker process of this host is alive with its models loaded"
        if role in LEADS:
            host = socket.gethostname()
            alive = leads.has_candidate(database, LEADS[role], host, max_silence_seconds=ALIVE_SECONDS)
            return None if alive else f"no {role} of this host is active or on standby"
        schema = revisions(database)
        if not schema.is_current:
            wanted = ", ".join(schema.wanted)
            return f"the schema of the database is {schema}, not {wanted}: run `pressroom db upgrade`"
        with RedisServer.from_url(settings.require_redis_url()).client() as client:
            for profile in settings.profiles:
                require_writable(client, profile)
        open_store(settings.require_s3_url())
        return None
    except (SQLAlchemyError, PressroomError) as error:
        return str(named(error) or error)
    except RedisError as error:
        return str(broker_error(RedisServer.from_url(settings.require_redis_url()), error))
    finally:
        database.dispose()


def main(arguments: list[str]) -> int:
    """Return the exit status for the named role, or for `services` if none is named."""
    try:
        role = Role(*arguments or [Role.SERVICES])
    except (TypeError, ValueError):
        sys.stderr.write(f"give one of {', '.join(Role)}\n")
        return 2
    try:
        fault = find_fault(read_settings(), role)
    except PressroomError as error:  # invalid settings, or a missing URL
        fault = str(error)
    if fault is not None:
        sys.stderr.write(f"{fault}\n")
    return int(fault is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
