"""A watch list prepared for the jobs of a batch; loaded once per worker."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from kinds.sentiment.documents.linking import Linker
from kinds.sentiment.documents.watchlist import Entity, Watchlist


@dataclass(frozen=True, slots=True)
class Watched:
    """A watch list with its linker, and its entities and their positions by id."""

    watchlist: Watchlist
    linker: Linker
    entities: Mapping[str, Entity]
    positions: Mapping[str, int]
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while a block is prepared or windows are computed. Several at once are no faster under one
    interpreter lock, and slower where they release it often, as numpy does."""


def load_watched(body: bytes) -> Watched:
    """Load the watch list from the body of its resource."""
    watchlist = Watchlist.model_validate_json(body)
    return Watched(
        watchlist,
        Linker(watchlist),
        {entity.id: entity for entity in watchlist.entities},
        {entity.id: position for position, entity in enumerate(watchlist.entities)},
    )
