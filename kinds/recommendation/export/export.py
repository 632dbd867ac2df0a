"""Exports a release as files in a folder, in one pass over its lists."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from kinds.recommendation.export.census import Census, ReleaseFigures
from kinds.recommendation.export.jsonl import COPIES, RECOMMENDATIONS, JsonlSink, write_copies
from kinds.recommendation.export.page import PAGE, render_recommendations_page
from kinds.recommendation.export.parquet import FOLDER, ParquetSink
from kinds.recommendation.export.rows import RowMaker
from kinds.recommendation.export.sinks import RowSink
from kinds.recommendation.releases.release import ReleaseReader
from pressroom.output import replace_text


def export_release(reader: ReleaseReader, folder: Path, *, title: str = "Recommendations") -> ReleaseFigures:
    """Write recommendations.jsonl, recommendations/, copies.jsonl and index.html, and return the figures.

    Each file replaces an earlier one when it is complete. Memory: the catalogue, one block, and
    parquet.MAX_BUFFERED_ROWS rows. Raises OSError and the reader's errors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    census = Census(reader.manifest.copy_policy.scope)
    pass_over(reader, [JsonlSink(folder / RECOMMENDATIONS), ParquetSink(folder / FOLDER), census])
    write_copies(reader, folder / COPIES)
    figures = figures_of(reader, census)
    replace_text(folder / PAGE, render_recommendations_page(reader, census, figures, title=title))
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
