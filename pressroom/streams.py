"""The standard streams: if output is lost, a command ends with an error message instead of a traceback."""

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
"""Exit status if the reader of a pipe has ended, as in `pressroom batches | head`: 128 plus SIGPIPE."""


class OutputLostError(Exception):
    """Standard output can no longer be written to.

    This is not an OSError, because an OSError is reported as a problem with a file that the user named.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.reader_is_gone = error.errno == errno.EPIPE


class StandardOutput(io.TextIOWrapper):
    """Standard output that raises OutputLostError on failure and escapes what would control a terminal."""

    is_styled = True
    """Whether styles are kept; True for help, which has colours, until a command runs and may print foreign
    text."""

    def write(self, text: str, /) -> int:
        """Write the text, escaped unless the stream is styled. Raises OutputLostError."""
        try:
            return super().write(text if self.is_styled else printable_lines(text))
        except OSError as error:
            raise OutputLostError(error) from error

    def flush(self) -> None:
        """Flush as TextIOWrapper does. Raises OutputLostError."""
        try:
            super().flush()
        except OSError as error:
            raise OutputLostError(error) from error


class StandardError(io.TextIOWrapper):
    """Standard error that drops what it cannot write. A full disk or a closed terminal does not end a
    command."""

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
    """The exit status of the command, which failures of the standard streams change."""

    status: int = 0


@contextmanager
def standard_streams() -> Iterator[Streams]:
    """Use StandardOutput and StandardError as stdout and stderr; set the exit status if output is lost."""
    _open_what_is_closed()
    _wrap()
    streams = Streams()
    try:
        yield streams
        sys.stdout.flush()
    except OutputLostError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more when it ends
        if error.reader_is_gone:
            streams.status = EXIT_READER_GONE
        else:
            streams.status = EXIT_UNWRITABLE
            sys.stderr.write(
                f"error [output_unwritable]: standard output cannot be written: {error}: free some space, or "
                "send it elsewhere\n"
            )


def _open_what_is_closed() -> None:
    """Open /dev/null for each closed standard stream.

    Otherwise the next opened file would get the stream's descriptor, and output would be written to it.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # open returns the lowest free descriptor


def _wrap() -> None:
    """Wrap stdout and stderr; text that cannot be encoded, such as odd bytes of a file name, is escaped."""
    for name, kind, number in (("stdout", StandardOutput, 1), ("stderr", StandardError, 2)):
        before = getattr(sys, name)
        encoding = "utf-8" if before is None else before.encoding
        interactive = before is not None and before.line_buffering
        buffer = open(number, "wb", closefd=False) if before is None else before.detach()  # noqa: SIM115
        stream = kind(buffer, encoding, errors="backslashreplace", line_buffering=interactive)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
