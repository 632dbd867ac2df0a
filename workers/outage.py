"""Reports an outage of a service when it begins, and again when it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping


class Outage:
    """Logs the first failure of a service and its recovery. Any thread may call it.

    Further failures in the same state are not logged.
    """

    def __init__(
        self,
        logger: logging.Logger,
        service: str,
        *,
        meanwhile: str,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Track the service named `service`.

        `meanwhile` completes the sentence "Valkey is unavailable; ...": it names what waits until the
        service is back. With `say`, messages go to a person instead of the log.
        """
        self._logger = logger
        self._say = say
        self._service = service
        self._meanwhile = meanwhile
        self._state: str | None = None
        self._begun_at = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the last call to the service failed."""
        return self._state is not None

    def note(self, error: BaseException, state: str = "is unavailable") -> None:
        """Record that a call failed; `state` describes the failure, as in "Valkey is unavailable".

        The failure is logged if the previous call succeeded, or failed in a different state.
        """
        if self._state is None:
            self._begun_at = time.monotonic()
        if self._state != state:
            reason = f"{type(error).__name__}: {first_line(error)}"
            self._report(f"{self._service} {state}; {self._meanwhile}.", {"reason": reason})
        self._state = state

    def end(self) -> None:
        """Record that a call succeeded."""
        if self._state is None:
            return
        self._state = None
        seconds = round(time.monotonic() - self._begun_at, 1)
        self._report(f"{self._service} answers again.", {"outage_seconds": seconds})

    def _report(self, sentence: str, extra: Mapping[str, object]) -> None:
        if self._say is not None:
            self._say(sentence)
        else:
            self._logger.warning(sentence, extra=extra)


def first_line(error: BaseException) -> str:
    """Return an error's message without the statement and the advice that SQLAlchemy appends."""
    return next(iter(str(getattr(error, "orig", None) or error).splitlines()), "")
