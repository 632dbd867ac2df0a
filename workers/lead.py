"""The lead among processes that may do the same: one is active, by a lease that it renews."""

from __future__ import annotations

import logging
import os
import socket
import time
from uuid import uuid4

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db import leads

logger = logging.getLogger(__name__)

LEASE_SECONDS = 6.0
"""Whoever is killed as leader is followed after this long. It covers a checkpoint of a slow disk."""

RENEW_SECONDS = 2.0
"""Two renewals may fail before the lease runs out."""


class Lead:
    """Belongs to one thread. Another one may lead once the lease has run out."""

    def __init__(self, database: Engine, role: str) -> None:
        """`role` is what only one process may do: one of db.leads."""
        self._database = database
        self._role = role
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
        self._fence: int | None = None
        self._contended_at = float("-inf")

    def is_held(self) -> bool:
        """Whether this process leads now, having tried to. Raises SQLAlchemyError; then it does not."""
        contended_at = time.monotonic()
        if self._fence is not None and contended_at - self._contended_at < RENEW_SECONDS:
            return True
        fence = leads.contend(
            self._database,
            self._role,
            self._holder,
            host=socket.gethostname(),
            lease_seconds=LEASE_SECONDS,
        )
        self._tell(fence)
        self._fence, self._contended_at = fence, contended_at
        return fence is not None

    def _tell(self, fence: int | None) -> None:
        """Log what has changed: gained, lost, or lost and gained again in between."""
        if self._fence is not None and fence != self._fence:
            logger.warning(
                f"This {self._role} has lost the lead to another one.", extra={"fence": self._fence}
            )
        if fence is not None and fence != self._fence:
            logger.info(f"This {self._role} is active.", extra={"fence": fence})

    def give_up(self) -> None:
        """Let another one lead."""
        if self._contended_at == float("-inf"):
            return
        self._fence, self._contended_at = None, float("-inf")
        try:
            leads.resign(self._database, self._role, self._holder)
        except SQLAlchemyError:
            logger.info("The lead could not be given up; its lease runs out.")
