"""Log lines: a constant sentence, then what it is about. Set up at entry points only."""

from __future__ import annotations

import logging
import sys

from jobs.shown import shown, shown_fields, shown_lines

OWN_LOGGERS = ("pressroom", "workers", "db", "storage", "jobs")
"""The names that this project's loggers begin with."""

MAX_TRACE_LINES = 500
"""A recursion that ended has a thousand frames; its ends are alike."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class SentenceFormatter(logging.Formatter):
    """Appends what our loggers give as `extra`: "Leases ran out. num_requeued=3".

    One record is one line, whatever foreign text is in it; the lines of a traceback are indented.
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
    """Write to stderr: our loggers from `level` on, those of libraries from `others` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SentenceFormatter(form + "%(message)s"))
    logging.basicConfig(level=others, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes each URL whole, with its key
    logging.getLogger("psycopg").setLevel(
        logging.ERROR
    )  # warns of each statement of an outage that we report
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
