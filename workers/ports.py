"""What the jobs of a worker process share besides its models."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from kinds.classifier.training.port import TrainingPlace
from kinds.sentiment.store.history import DatabaseHistory
from storage.store import Store
from workers.connectors.sources import ConnectedSources
from workers.resources import StoredResources
from workers.settings import Settings


@dataclass(frozen=True, slots=True)
class Ports:
    """Made once a process; any thread may use them."""

    history: DatabaseHistory
    resources: StoredResources
    sources: ConnectedSources
    training: TrainingPlace


def open_ports(database: Engine, store: Store, settings: Settings) -> Ports:
    """The ports over this process's database and store; connects to nothing yet."""
    training = TrainingPlace(
        database=database,
        store=store,
        models_folder=settings.models_folder,
        num_threads=settings.num_threads,
    )
    return Ports(
        history=DatabaseHistory(database),
        resources=StoredResources(store),
        sources=ConnectedSources(store),
        training=training,
    )
