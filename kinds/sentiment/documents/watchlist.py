"""A watch list: the companies and topics whose documents are followed."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import InputError

MAX_IDS_SHOWN = 20
"""Of those that there are, where one is asked for that is not."""


class EntityNotWatchedError(InputError):
    """A watch list has no entity of an id."""

    code = "entity_not_watched"


class EntityKind(StrEnum):
    """What is watched."""

    COMPANY = "company"
    """Found by its name, aliases and tickers."""
    TOPIC = "topic"
    """Found by aliases, and by documents whose embedding is near its description's."""


class Entity(BaseModel):
    """One company or topic."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    """For files, URLs and people: "acme-steel"."""
    kind: EntityKind
    name: str = Field(min_length=1, max_length=100)
    aliases: tuple[str, ...] = ()
    tickers: tuple[str, ...] = ()
    """As exchanges write them: "ACME"; found as $ACME, (NYSE: ACME), or bare if it is no common word."""
    description: str = ""
    """A sentence or two: tells a company from others of its name, and says what a topic is about."""


class Watchlist(BaseModel):
    """Entities in the order of the file; ids are unique."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    entities: tuple[Entity, ...] = Field(min_length=1)

    def require(self, entity_id: str) -> None:
        """Raise EntityNotWatchedError, with the ids that there are, if no entity has this one."""
        ids = [entity.id for entity in self.entities]
        if entity_id in ids:
            return
        more = f" and {len(ids) - MAX_IDS_SHOWN} more" if len(ids) > MAX_IDS_SHOWN else ""
        raise EntityNotWatchedError(
            f"{entity_id!r} is not watched: there are {', '.join(ids[:MAX_IDS_SHOWN])}{more}"
        )
