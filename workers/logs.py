"""Log lines: a constant sentence, followed by its fields. Set up at entry points only."""

from __future__ import annotations

import logging
import sys

from jobs.shown import shown, shown_fields, shown_lines

OWN_LOGGERS = ("kinds", "pressroom", "workers", "db", "storage", "jobs")
"""First components of the names of this project's loggers."""

MAX_TRACE_LINES = 500
"""Maximum lines of a traceback. An endless recursion has a thousand frames, which are nearly all alike."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class SentenceFormatter(logging.Formatter):
    """Appends the `extra` fields of our loggers: "Leases expired. num_requeued=3".

    One record is one line, whatever external text it contains; the lines of a traceback are indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        record.message = shown(record.getMessage())
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        line = self.formatMessage(record)
        if record.name.partition(".")[0] in OWN_LOGGERS:
            line += shown_fields(
                {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
            )
        traces = [self.formatException(record.exc_info)] if record.exc_info else []
        traces += [self.formatStack(record.stack_info)] if record.stack_info else []
        return "\n  ".join([line, *(shown_lines(trace, max_lines=MAX_TRACE_LINES) for trace in traces)])


def set_up_logging(level: str, *, others: str = "WARNING", form: str = "%(levelname)s %(name)s: ") -> None:
    """Log to stderr: messages of our loggers from `level` up, and of libraries from `others` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SentenceFormatter(form + "%(message)s"))
    logging.basicConfig(level=others, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs whole URLs, with their keys
    logging.getLogger("psycopg").setLevel(
        logging.ERROR
    )  # warns about each statement during an outage that we report ourselves
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
