"""A watch list: the companies and topics that a monitor follows."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import InputError

MAX_IDS_SHOWN = 20
"""Maximum ids that an error message lists."""


class EntityNotWatchedError(InputError):
    """The watch list has no entity with this id."""

    code = "entity_not_watched"


class EntityKind(StrEnum):
    """Kind of an entity."""

    COMPANY = "company"
    """Found by its name, aliases and tickers."""
    TOPIC = "topic"
    """Found by its name and aliases, and in documents whose embedding is near that of its description."""


class Entity(BaseModel):
    """One company or topic."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    """Identifier in files and URLs, such as "acme-steel"."""
    kind: EntityKind
    name: str = Field(min_length=1, max_length=100)
    aliases: tuple[str, ...] = ()
    tickers: tuple[str, ...] = ()
    """Tickers as exchanges write them ("ACME"). A ticker is found as $ACME or (NYSE: ACME), and also without
    these marks unless it is a word."""
    description: str = ""
    """One or two sentences that distinguish a company from others with its name, or explain a topic."""


class Watchlist(BaseModel):
    """Entities in the order of the file; ids are unique."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    entities: tuple[Entity, ...] = Field(min_length=1)

    def require(self, entity_id: str) -> None:
        """Raise EntityNotWatchedError, listing the existing ids, if no entity has this id."""
        ids = [entity.id for entity in self.entities]
        if entity_id in ids:
            return
        more = f" and {len(ids) - MAX_IDS_SHOWN} more" if len(ids) > MAX_IDS_SHOWN else ""
        raise EntityNotWatchedError(
            f"{entity_id!r} is not on the watch list, which has {', '.join(ids[:MAX_IDS_SHOWN])}{more}"
        )
