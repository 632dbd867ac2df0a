"""Serves published releases automatically: it polls for new releases and for withdrawn items."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db.session import opened_database
from jobs.errors import ConfigurationError, PressroomError
from kinds.recommendation.recommender import Recommender, ServingPlace
from kinds.recommendation.recommenders import open_release, published_release
from kinds.recommendation.serving.serving import ServingResult, ServingTarget, serve_release
from kinds.recommendation.store.recommenders import list_recommenders
from kinds.recommendation.store.releases import withdrawn_items
from pressroom.summary import Altered
from storage import open_store
from storage.store import Store
from workers.background import BackgroundPlace, BackgroundThread, background_thread
from workers.redis_server import RedisServer

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Interval between two checks for published releases."""

EXPIRY_SECONDS = 60.0
"""Interval between two checks for expired items; an expired item is served for at most this long."""

JOIN_SECONDS = 10.0
"""Time to wait for a running export when stopping. The next export resumes an interrupted export."""

RETRY_SECONDS = 30.0
"""Delay before a recommender whose export failed is tried again."""


@dataclass(frozen=True, slots=True)
class _LastExport:
    """The state of the last export of a recommender."""

    release_id: UUID
    withdrawn: frozenset[str]
    """Items withdrawn by hand or by newer inputs."""
    left: frozenset[str]
    """All items left out of the export: withdrawn ones and those that had expired."""
    served_at: float
    """Time of the last export by time.monotonic(), like `at`."""
    at: float
    """Time of the last check for expired items."""


class Follower:
    """Serves the published releases, and serves a release again after changes and before its rows expire.

    It is not thread-safe.
    """

    def __init__(self, database: Engine, store: Store) -> None:
        self._database = database
        self._store = store
        self._last_exports: dict[UUID, _LastExport] = {}
        self._retry_at: dict[UUID, float] = {}

    def look(self) -> list[ServingResult]:
        """Serve what has changed since the last call; a failure for one recommender affects no other."""
        served = []
        for recommender in list_recommenders(self._database):
            if time.monotonic() < self._retry_at.get(recommender.id, 0.0):
                continue
            try:
                done = self._follow(recommender)
            except PressroomError as error:
                extra = {"recommender": recommender.name, "reason": str(error)}
                logger.warning("A release could not be served; the export will be retried.", extra=extra)
                self._retry_at[recommender.id] = time.monotonic() + RETRY_SECONDS
                continue
            except SQLAlchemyError:
                raise
            except Exception:
                logger.exception(
                    "A release could not be served; the export will be retried.",
                    extra={"recommender": recommender.name},
                )
                self._retry_at[recommender.id] = time.monotonic() + RETRY_SECONDS
                continue
            if done is not None:
                served.append(done)
        return served

    def _follow(self, recommender: Recommender) -> ServingResult | None:
        release = published_release(self._database, recommender)
        if recommender.serving is None or release is None:
            return None
        withdrawn = frozenset(withdrawn_items(self._database, recommender.id))
        seen = self._last_exports.get(recommender.id)
        is_same = seen is not None and (seen.release_id, seen.withdrawn) == (release.id, withdrawn)
        if seen is not None and is_same and time.monotonic() - seen.at < EXPIRY_SECONDS:
            return None
        begun_at = time.monotonic()
        reader = open_release(self._database, self._store, release, _log_altered)
        lasts = (recommender.serving.expire_seconds or math.inf) / 2
        still = seen is not None and is_same and seen.left == reader.withdrawn
        if seen is not None and still and begun_at - seen.served_at < lasts:
            self._last_exports[recommender.id] = replace(seen, at=begun_at)
            return None
        served = serve_release(reader, target_of(recommender.serving))
        self._last_exports[recommender.id] = _LastExport(
            release.id, withdrawn, reader.withdrawn, begun_at, begun_at
        )
        return served


def _log_altered(altered: Altered) -> None:
    logger.error("A text is not served, because it was altered.", extra=altered.as_json())


def target_of(place: ServingPlace) -> ServingTarget:
    """Return the target of a place, with the URL from its environment variable.

    Raises ConfigurationError (`serving_unset`, `serving_unsuited`).
    """
    url = os.environ.get(place.url_variable)
    if not url:
        raise ConfigurationError(
            f"{place.url_variable} is not set: set it to redis://HOST:PORT/DATABASE, a database that is used "
            "for nothing else",
            code="serving_unset",
        )
    server = RedisServer.from_url(url, variable=place.url_variable)
    own = os.environ.get("PRESSROOM_REDIS_URL")
    if own and server.location == RedisServer.from_url(own).location:
        raise ConfigurationError(
            f"{place.url_variable} names the database that Pressroom uses for its messages: name another one",
            code="serving_unsuited",
        )
    return ServingTarget(url=url, staging=place.staging, expire_seconds=place.expire_seconds)


@contextmanager
def serve_in_background(place: BackgroundPlace) -> Iterator[BackgroundThread]:
    """Run a follower in a thread while the block lasts; implements `workers.background.BackgroundOpener`."""
    s3_url = place.s3_url or place.settings.require_s3_url()
    with opened_database(place.db_url) as database:
        run = partial(_follow, Follower(database, open_store(s3_url)))
        with background_thread("serving", run, join_seconds=JOIN_SECONDS) as thread:
            yield thread


def _follow(follower: Follower, stopping: threading.Event) -> None:
    while not stopping.wait(LOOK_SECONDS):
        try:
            follower.look()
        except SQLAlchemyError:
            logger.warning("Postgres is unreachable; the served releases remain unchanged.")
