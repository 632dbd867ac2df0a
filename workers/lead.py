"""The lead among processes with the same role: only the process that holds and renews the lease is active."""

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
"""Time after which a killed leader is replaced. It is longer than a checkpoint of Postgres on a slow disk,
which can delay a renewal."""

RENEW_SECONDS = 2.0
"""Interval between renewals, so that two may fail before the lease runs out."""


class Lead:
    """One process's claim to the lead. Another process can take the lead once the lease has run out.

    Belongs to one thread.
    """

    def __init__(self, database: Engine, role: str) -> None:
        """Prepare to contend for the lead of `role`, which is one of the roles in db.leads."""
        self._database = database
        self._role = role
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
        self._fence: int | None = None
        self._contended_at = float("-inf")

    @property
    def fence(self) -> int | None:
        """Fence with which this process last held the lead; None if the process does not lead."""
        return self._fence

    def is_held(self) -> bool:
        """Try to take or renew the lead; return whether this process leads now.

        Raises SQLAlchemyError, in which case this process does not lead.
        """
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
        self._log_change(fence)
        self._fence, self._contended_at = fence, contended_at
        return fence is not None

    def _log_change(self, fence: int | None) -> None:
        """Log what has changed: the lead was gained, lost, or lost and regained in between."""
        if self._fence is not None and fence != self._fence:
            logger.warning(
                f"This {self._role} has lost the lead to another process.", extra={"fence": self._fence}
            )
        if fence is not None and fence != self._fence:
            logger.info(f"This {self._role} is active.", extra={"fence": fence})

    def give_up(self) -> None:
        """Give up the lead, so that another process can take it at once."""
        if self._contended_at == float("-inf"):
            return
        self._fence, self._contended_at = None, float("-inf")
        try:
            leads.resign(self._database, self._role, self._holder)
        except SQLAlchemyError:
            logger.info("The lead could not be given up; its lease will expire.")
