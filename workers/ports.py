"""What the jobs of a worker process share besides its models."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from db.history import DatabaseHistory
from storage.store import Store
from workers.resources import StoredResources


@dataclass(frozen=True, slots=True)
class Ports:
    """Made once a process; any thread may use them."""

    history: DatabaseHistory
    resources: StoredResources


def open_ports(database: Engine, store: Store) -> Ports:
    """The ports over this process's database and store; connects to nothing yet."""
    return Ports(history=DatabaseHistory(database), resources=StoredResources(store))
