"""Exports a release as files in a folder, in one pass over its lists."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote

import pyarrow as pa
from pyarrow import parquet

from jobs.shown import json_text
from kinds.recommendation.export.census import Census, ReleaseFigures
from kinds.recommendation.export.page import render_recommendations_page
from kinds.recommendation.export.rows import Row, RowMaker, TextFinder, text_json
from kinds.recommendation.release import ReleaseReader
from pressroom.export import DIGEST_DIGITS, INDEX
from pressroom.output import new_folder


class RowSink(Protocol):
    """Receives rows block by block. The result is complete once the sink's context ends without an error."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def write(self, rows: Sequence[Row]) -> None:
        """Receive the rows of one block."""
        ...


RECOMMENDATIONS = "recommendations.jsonl"
TEXTS = "texts.jsonl"


class JsonlSink:
    """Writes recommendations.jsonl; implements RowSink."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._lines = self._path.open("w", encoding="utf-8", newline="\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._lines.close()

    def write(self, rows: Sequence[Row]) -> None:
        """Write the rows of a block."""
        self._lines.writelines(json_line(row.as_json()) for row in rows)


def json_line(row: Mapping[str, object]) -> str:
    r"""Return an object as exactly one line, whatever its strings contain.

    >>> json_line({"user": "a\u2028b\nc"})
    '{"user":"a\\u2028b\\nc"}\n'
    """
    return json_text(row, is_compact=True) + "\n"


def write_texts(reader: ReleaseReader, path: Path) -> None:
    """Write texts.jsonl: a line for each audience that has a planned text, with the text that readers get."""
    finder = TextFinder(reader)
    with path.open("w", encoding="utf-8", newline="\n") as lines:
        indexes = (
            (block.text_index for block in reader.blocks()) if _is_per_user(reader) else [reader.text_index()]
        )
        for index in indexes:
            for audience, entry, text in finder.all_of(index):
                row = {
                    "audience": audience,
                    "key": entry.key,
                    "items": entry.items,
                    **text_json(text),
                    "num_tries": 0 if text is None else text.num_tries,
                    "problems": () if text is None else text.problems,
                }
                lines.write(json_line(row))


def _is_per_user(reader: ReleaseReader) -> bool:
    return any(block.text_index_sha256 is not None for block in reader.manifest.blocks)


FOLDER = "recommendations"

MAX_BUFFERED_ROWS = 20_000
"""Maximum number of buffered rows of all segments together, which take about 100 MB. A higher limit would
give fewer small files."""

MAX_FOLDER_CHARACTERS = 120
"""Maximum length of a segment in a folder's name, well below the 255 bytes that file systems allow for a
name."""

_NULL = "__HIVE_DEFAULT_PARTITION__"
"""Name that Hive and its readers give to the partition without a value."""

_AMBIGUOUS = re.compile(
    rf"(%[0-9A-F]{{2}})|[A-Z]|\.$|-(?=[0-9a-f]{{{DIGEST_DIGITS}}}$)|^_(?=(?i:{_NULL[1:]})$)"
)
"""Matches an existing escape, which is kept, and everything that must be escaped: capitals, a dot at the end
(Windows drops it), and what looks like the digest of a long segment or the partition without a value."""

_TEXT = [(name, pa.string()) for name in ("headline", "blurb", "reason", "text_origin")]

_SCHEMA = pa.schema(
    [
        pa.field("user", pa.string(), nullable=False),
        pa.field("release", pa.int32(), nullable=False),
        pa.field(
            "items",
            pa.list_(
                pa.struct(
                    [
                        ("item", pa.string()),
                        ("rank", pa.int32()),
                        ("title", pa.string()),
                        ("price", pa.float64()),
                        ("currency", pa.string()),
                        ("score", pa.float64()),
                        ("reason", pa.string()),
                        ("reason_kind", pa.string()),
                        ("because", pa.string()),
                        ("attribute", pa.string()),
                        ("share", pa.float64()),
                        ("text", pa.struct(_TEXT)),
                    ]
                )
            ),
        ),
        *_TEXT,
    ]
)


class ParquetSink:
    """Writes recommendations/segment=.../part-*.parquet; implements RowSink."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: defaultdict[str, list[Row]] = defaultdict(list)
        self._num_waiting = 0
        self._num_files = 0

    def __enter__(self) -> Self:
        self._folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if kind is None:
            self._write_down_to(0)

    def write(self, rows: Sequence[Row]) -> None:
        """Buffer the rows of a block, and write the largest segments if too many rows are buffered."""
        for row in rows:
            self._waiting[row.segment].append(row)
        self._num_waiting += len(rows)
        if self._num_waiting > MAX_BUFFERED_ROWS:
            self._write_down_to(MAX_BUFFERED_ROWS // 2)

    def _write_down_to(self, num_left: int) -> None:
        """Write segments until at most `num_left` rows are left.

        Segments with the most rows are written first, which gives few large files.
        """
        for segment in sorted(self._waiting, key=lambda name: (-len(self._waiting[name]), name)):
            if self._num_waiting <= num_left:
                return
            rows = self._waiting.pop(segment)
            self._num_waiting -= len(rows)
            folder = self._folder / partition(segment)
            folder.mkdir(exist_ok=True)
            table = pa.Table.from_pylist([row.as_json() for row in rows], schema=_SCHEMA)
            parquet.write_table(table, folder / f"part-{self._num_files:05}.parquet", compression="zstd")
            self._num_files += 1


def partition(segment: str) -> str:
    """Return the folder of a segment, which is unique to it on any file system.

    Some file systems ignore case or the encoding of accents, so capitals are escaped like everything that is
    not ASCII. A reader gets the segment's name back unless it is too long for a folder's name.

    >>> partition("tents & tarps"), partition("../x"), partition("")
    ('segment=tents%20%26%20tarps', 'segment=..%2Fx', 'segment=__HIVE_DEFAULT_PARTITION__')
    >>> partition("abc"), partition("ABC"), partition("__hive_default_partition__")
    ('segment=abc', 'segment=%41%42%43', 'segment=%5F_hive_default_partition__')
    """
    quoted = _AMBIGUOUS.sub(_escape, quote(segment, safe="")) or _NULL
    if len(quoted) > MAX_FOLDER_CHARACTERS:
        digest = hashlib.sha256(segment.encode()).hexdigest()[:DIGEST_DIGITS]
        # The name is not cut within an escape, because the rest of an escape could not be unquoted
        cut = quoted[: MAX_FOLDER_CHARACTERS - len(digest) - 1]
        cut = cut[: cut.rindex("%")] if "%" in cut[-2:] else cut
        quoted = f"{cut}-{digest}"
    return f"segment={quoted}"


def _escape(ambiguous: re.Match[str]) -> str:
    return ambiguous[1] or f"%{ord(ambiguous[0]):02X}"


def export_release(reader: ReleaseReader, folder: Path, *, title: str = "Recommendations") -> ReleaseFigures:
    """Write recommendations.jsonl, recommendations/, texts.jsonl and index.html, and return the figures.

    An earlier export is replaced only when all files are written. Memory holds the catalogue, one
    block at a time and at most MAX_BUFFERED_ROWS rows. Raises OSError and the reader's errors.
    """
    census = Census(reader.manifest.text_policy.scope)
    with new_folder(folder) as new:
        pass_over(reader, [JsonlSink(new.path / RECOMMENDATIONS), ParquetSink(new.path / FOLDER), census])
        write_texts(reader, new.path / TEXTS)
        figures = figures_of(reader, census)
        page = render_recommendations_page(reader, census, figures, title=title)
        (new.path / INDEX).write_text(page, encoding="utf-8")
        new.replace_folder(FOLDER)
        new.publish()
    return figures


def pass_over(reader: ReleaseReader, sinks: Sequence[RowSink]) -> None:
    """Pass every row to every sink, block by block; the sinks' results are complete afterwards."""
    maker = RowMaker(reader)
    with ExitStack() as stack:
        opened = [stack.enter_context(sink) for sink in sinks]
        for block in reader.blocks():
            rows = maker.rows_of(block)
            for sink in opened:
                sink.write(rows)


def figures_of(reader: ReleaseReader, census: Census) -> ReleaseFigures:
    """Return the figures of the counted rows, together with those of the release itself."""
    catalogue, as_of = reader.catalogue(), reader.manifest.as_of
    left = [
        item_id for item_id in reader.withdrawn & catalogue.keys() if catalogue[item_id].is_available(as_of)
    ]
    return census.figures(number=reader.number, num_items=len(catalogue), num_withdrawn=len(left))
