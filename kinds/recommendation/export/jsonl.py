"""Writes the rows and texts of a release as JSON lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from jobs.shown import json_text
from kinds.recommendation.export.rows import Row, copy_json
from kinds.recommendation.export.texts import TextFinder
from kinds.recommendation.releases.release import ReleaseReader
from pressroom.output import new_file

RECOMMENDATIONS = "recommendations.jsonl"
COPIES = "copies.jsonl"


class LinesFile:
    """A file of JSON lines that replaces an earlier one when it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._exits = ExitStack()
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._file = self._exits.enter_context(new_file(self._path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._exits.__exit__(kind, error, trace)

    def write_line(self, row: Mapping[str, object]) -> None:
        """Write one object."""
        if self._file is None:
            raise ValueError(f"{self._path} is not open")
        self._file.write(json_line(row))


class JsonlSink(LinesFile):
    """Writes recommendations.jsonl; implements sinks.RowSink."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write the rows of a block."""
        for row in rows:
            self.write_line(row.as_json())


def json_line(row: Mapping[str, object]) -> str:
    r"""Return an object as exactly one line, whatever its strings contain.

    >>> json_line({"user": "a\u2028b\nc"})
    '{"user":"a\\u2028b\\nc"}\n'
    """
    return json_text(row, is_compact=True) + "\n"


def write_copies(reader: ReleaseReader, path: Path) -> None:
    """Write copies.jsonl: for each audience with a planned text, a line with the text that readers get."""
    finder = TextFinder(reader)
    with LinesFile(path) as lines:
        indexes = (
            (block.copies for block in reader.blocks()) if _is_per_user(reader) else [reader.copy_index()]
        )
        for index in indexes:
            for audience, entry, text in finder.all_of(index):
                lines.write_line(
                    {
                        "audience": audience,
                        "key": entry.key,
                        "items": entry.items,
                        **copy_json(text),
                        "num_tries": 0 if text is None else text.num_tries,
                        "problems": () if text is None else text.problems,
                    }
                )


def _is_per_user(reader: ReleaseReader) -> bool:
    return any(block.copy_index_sha256 is not None for block in reader.manifest.blocks)
