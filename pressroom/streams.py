"""The standard streams: output that cannot be written is a sentence and an exit status, not a traceback."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jobs.shown import printable_lines

EXIT_UNWRITABLE = 1
EXIT_READER_GONE = 141
"""128 and the number of SIGPIPE, as a shell reports it of `pressroom batches | head`."""


class OutputLostError(Exception):
    """Standard output takes no more. No OSError: those are about files that somebody named."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.reader_is_gone = error.errno == errno.EPIPE


class StandardOutput(io.TextIOWrapper):
    """Raises OutputLostError for what it cannot write; escapes what would act on a terminal."""

    is_styled = True
    """Until a command works: help has colours. What commands print has none, and may be foreign."""

    def write(self, text: str, /) -> int:
        """Write as TextIOWrapper does."""
        try:
            return super().write(text if self.is_styled else printable_lines(text))
        except OSError as error:
            raise OutputLostError(error) from error

    def flush(self) -> None:
        """Flush as TextIOWrapper does."""
        try:
            super().flush()
        except OSError as error:
            raise OutputLostError(error) from error


class StandardError(io.TextIOWrapper):
    """Drops what it cannot write: a full disk under a log, or a closed terminal, ends no work."""

    def write(self, text: str, /) -> int:
        """Write as TextIOWrapper does, and ignore errors."""
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Flush as TextIOWrapper does, and ignore errors."""
        try:
            super().flush()
        except OSError:
            return


@dataclass(slots=True)
class Streams:
    """The exit status of the command that writes to them."""

    status: int = 0


@contextmanager
def standard_streams() -> Iterator[Streams]:
    """Output of the block goes to streams of these classes; where it is lost, the status says so."""
    _open_what_is_closed()
    _wrap()
    streams = Streams()
    try:
        yield streams
        sys.stdout.flush()
    except OutputLostError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more as it ends
        if error.reader_is_gone:
            streams.status = EXIT_READER_GONE
        else:
            streams.status = EXIT_UNWRITABLE
            sys.stderr.write(
                f"error [output_unwritable]: standard output cannot be written: {error}: free some space, or "
                "send it elsewhere\n"
            )


def _open_what_is_closed() -> None:
    """A closed stream's number would go to the next file that is opened, and output into that file."""
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number


def _wrap() -> None:
    """What no encoding holds, such as odd bytes of a file name, is written as an escape."""
    for name, kind, number in (("stdout", StandardOutput, 1), ("stderr", StandardError, 2)):
        before = getattr(sys, name)
        encoding = "utf-8" if before is None else before.encoding
        interactive = before is not None and before.line_buffering
        buffer = open(number, "wb", closefd=False) if before is None else before.detach()  # noqa: SIM115
        stream = kind(buffer, encoding, errors="backslashreplace", line_buffering=interactive)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
