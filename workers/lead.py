"""The lead among processes that may do the same: one is active, by an advisory lock of its session."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from db.dispatch import confirm_lead, try_lead


class Lead:
    """Belongs to one thread. It is lost with the session, and then another one may have it."""

    def __init__(self, database: Engine, key: int) -> None:
        """`key` is that of the advisory lock: one for each thing that only one process may do."""
        self._database = database
        self._key = key
        self._session: Connection | None = None

    def is_held(self) -> bool:
        """Whether this process leads now, having tried to. Raises DBAPIError; then it does not."""
        try:
            if self._session is not None:
                confirm_lead(self._session)
                return True
            self._session = self._database.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._session.detach()  # closed for good afterwards: in the pool it would keep the lead
            if try_lead(self._session, self._key):
                return True
        except BaseException:
            self.give_up()
            raise
        self.give_up()
        return False

    def give_up(self) -> None:
        """Let another one lead."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(DBAPIError):  # a session that is dead already has no lock
                session.close()
