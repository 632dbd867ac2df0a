"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from jobs.instants import DateFormatError, DateOrder, parse_date_order
from jobs.intake.dialect import DialectError, FileOptions, parse_decimal, parse_delimiter
from jobs.intake.files import STDIN, check_input
from jobs.intake.formats import UnknownEncodingError, check_encoding
from jobs.ranges import label_problem
from jobs.rejection import Dropped, FileRejectedError, InputDroppedError, check_dropped, parse_share
from pressroom.console import say


def _share(text: str) -> float:
    try:
        return parse_share(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a share: write it as 0.05 or 5%") from error


def _date_order(text: str) -> DateOrder:
    try:
        return parse_date_order(text)
    except DateFormatError as error:
        raise typer.BadParameter(str(error)) from error


def _batch_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{ascii(text)[:80]} is not the id of a batch: see `pressroom batches`"
        ) from error


def label(text: str | None) -> str | None:
    """Check and return the text of an option that becomes a label in tables and logs; used as a callback."""
    if text is not None and (problem := label_problem(text)) is not None:
        raise typer.BadParameter(f"{ascii(text)[:80]} {problem}")
    return text


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Out = Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="Folder for the results.")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Devices to use: auto, cpu, cuda:N, or several separated by commas.")
]
BatchOption = Annotated[
    UUID | None,
    typer.Option(
        "--batch", metavar="BATCH", parser=_batch_id, help="Continue this batch instead of reading FILE."
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed", help="With --batch: run failed, cancelled and expired jobs again as well."
    ),
]
MaxDropped = Annotated[
    float | None,
    typer.Option(
        "--max-dropped",
        metavar="SHARE",
        parser=_share,
        help="Share of the input that may be refused, such as 0.05 or 5%.",
    ),
]
DateFormat = Annotated[
    DateOrder | None,
    typer.Option(
        "--date-format",
        metavar="ORDER",
        parser=_date_order,
        help="Order of day and month in dates such as 12/1/2026: day-first or month-first; by default, "
        "detected from the column.",
    ),
]
BatchArgument = Annotated[UUID, typer.Argument(metavar="BATCH", parser=_batch_id)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat:
    """Options for the format of a file of texts."""

    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="SIGN", help="Delimiter of a CSV file, such as ';' or tab; by default, it is detected."
        ),
    ] = None
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Encoding of a text file, such as cp1252; defaults to UTF-8, or to UTF-16 if there is a "
            "byte order mark.",
        ),
    ] = None

    def options(self) -> FileOptions:
        """Return the options for reading the file. Raises BadParameter."""
        return _file_options(self.delimiter, self.encoding, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFormat(TextFormat):
    """Options for the format of a table, which may contain numbers."""

    decimal: Annotated[
        str | None,
        typer.Option(
            metavar="SIGN",
            help="Decimal separator in a CSV file: point or comma; by default, it is detected.",
        ),
    ] = None

    def options(self) -> FileOptions:
        """Return the options for reading the file. Raises BadParameter."""
        return _file_options(self.delimiter, self.encoding, self.decimal)


def is_dropped_too_much(dropped: Dropped | None, max_dropped: float | None) -> bool:
    """Return whether a command fails because records were refused; without `max_dropped`, a single one is
    enough.

    If more than the allowed or usual share was refused, the error is printed.
    """
    if dropped is None or not dropped.num_dropped:
        return False
    try:
        check_dropped(dropped, max_dropped)
    except InputDroppedError as error:
        say(f"error [{error.code}]: {error}")
        return True
    return max_dropped is None


def columns_of(items: list[str] | None, option: str) -> dict[str, str]:
    """Parse options of the form FIELD=COLUMN into a mapping from field to column."""
    pairs = [item.partition("=") for item in items or []]
    for name, equals, column in pairs:
        if not (name and equals and column):
            raise typer.BadParameter(f"{name!r} is not of the form FIELD=COLUMN", param_hint=option)
    return {name: column for name, _, column in pairs}


def option_words(options: Mapping[str, str | None]) -> list[str]:
    """Return options as words of a command line, for the command that continues a batch.

    >>> option_words({"model": "mine", "out": None})
    ['--model', 'mine']
    """
    return [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]


def input_path(text: str) -> Path:
    """Return the path of a file that a command reads, where `-` is standard input.

    A file that cannot be read is reported as wrong usage.
    """
    path = STDIN if text == "-" else Path(text)
    try:
        check_input(path)
    except FileRejectedError as error:
        raise typer.BadParameter(f"{error.rejected.reason}: {path} ({error.rejected.advice})") from error
    return path


def reread_path(text: str) -> Path:
    """Return the path of a file that every run reads again, which excludes standard input."""
    path = input_path(text)
    if not path.is_file():
        raise typer.BadParameter(
            f"{path} is piped in, but the input is read again at each run: give the name of a file"
        )
    return path


def file_argument(help_text: str) -> Any:
    """Return an argument that names a file to read."""
    return typer.Argument(parser=input_path, metavar="FILE", help=f"{help_text} use `-` for standard input.")


def _file_options(delimiter: str | None, encoding: str | None, decimal: str | None) -> FileOptions:
    """Return the file options; each note on how the file was read is printed only once on stderr."""
    printed: set[str] = set()

    def tell(line: str) -> None:
        if line not in printed:
            printed.add(line)
            say(line)

    try:
        return FileOptions(
            delimiter=None if delimiter is None else parse_delimiter(delimiter),
            encoding=None if encoding is None else check_encoding(encoding),
            decimal=None if decimal is None else parse_decimal(decimal),
            tell=tell,
        )
    except (DialectError, UnknownEncodingError) as error:
        raise typer.BadParameter(str(error)) from error
