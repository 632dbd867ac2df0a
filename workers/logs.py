"""Log lines: a constant sentence, then what it is about. Set up at entry points only."""

from __future__ import annotations

import logging
import sys

OWN_LOGGERS = ("pressroom", "workers", "db", "storage", "jobs")
"""The names that this project's loggers begin with."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class SentenceFormatter(logging.Formatter):
    """Appends what our loggers give as `extra`: "Leases ran out. num_requeued=3"."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if record.name.partition(".")[0] not in OWN_LOGGERS:
            return line
        extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        sentence, newline, trace = line.partition("\n")
        return sentence + "".join(f" {name}={value}" for name, value in extra.items()) + newline + trace


def set_up_logging(level: str, *, others: str = "WARNING", form: str = "%(levelname)s %(name)s: ") -> None:
    """Write to stderr: our loggers from `level` on, those of libraries from `others` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SentenceFormatter(form + "%(message)s"))
    logging.basicConfig(level=others, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes each URL whole, with its key
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
