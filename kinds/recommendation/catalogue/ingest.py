"""Ingests a catalogue and a log of interactions as resources, which is the first step of a refresh.

`ingest` blocks the calling thread. Paths refer to the machine of the caller, which is a command or a worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from jobs.documents.reading import OnNote
from jobs.intake.columns import unread_columns
from jobs.rejection import Dropped, FileRejectedError, Rejected, check_dropped, quoted, refuse_file
from kinds.recommendation.catalogue.columns import EventKinds
from kinds.recommendation.catalogue.event_batches import event_batches
from kinds.recommendation.catalogue.events import EventReader
from kinds.recommendation.catalogue.histories import Blocks, Partitions, Robots
from kinds.recommendation.catalogue.inputs import INTERACTION_FIELDS, DroppedRows, Inputs, IntakeOptions
from kinds.recommendation.catalogue.interactions import BLOCK_TYPE, block_bytes
from kinds.recommendation.catalogue.item import CATALOGUE_TYPE, Item, catalogue_bytes
from kinds.recommendation.catalogue.item_reader import read_items
from kinds.recommendation.catalogue.tally import MAX_FLAGGED, Tally

_SHOWN_IDS = 3

_NOT_DROPPED = frozenset({"duplicate_item", "kind_ignored", "unknown_kind", "returned"})
"""Codes that are counted but do not mean that a row was dropped."""

Write = Callable[[bytes, str], str]
"""Stores bytes of a media type as a resource and returns its digest."""


def ingest(
    catalogue: Path,
    interactions: Path,
    *,
    options: IntakeOptions,
    write: Write,
    on_rejected: Callable[[Rejected], None],
    now: datetime,
    on_note: OnNote | None = None,
) -> Inputs:
    """Read both files (CSV or JSONL, gzipped or not, or Parquet) and store their contents.

    The order of the rows changes the resources only if items share an id: the last of them counts.
    `on_rejected` gets the first rejected rows of each code; all rejected rows are counted.
    Memory holds all items, and 1/256 of the users at a time, or one block of them if that is more. The
    folder for temporary files needs 30 bytes per event.
    Raises FileRejectedError or ColumnMappingError for a file that cannot be used at all, and
    InputDroppedError if a larger share of a file was dropped than the options allow.
    """
    tally = Tally(on_rejected, on_note)
    file_options = options.file_options(tally.note)
    items = read_items(catalogue, options, tally, file_options)
    num_rejected = tally.num_rejected
    dropped = [_dropped(tally, len(items) + tally.counts["duplicate_item"] + num_rejected)]
    item_ids = sorted(items)
    kinds, robots = EventKinds(options), Robots(options.max_events)
    reader = EventReader(interactions, item_ids, kinds, options, now, tally)
    with Partitions() as partitions:
        for batch in event_batches(interactions, options.interaction_columns, tally, file_options):
            partitions.add(robots.cut(reader.read(batch)))
        if reader.num_timed + reader.num_untimed == 0:
            raise _nothing_kept(interactions, item_ids, reader, tally)
        dropped.append(
            _dropped(tally, reader.num_rows + tally.num_rejected - num_rejected, dropped[0].by_code)
        )
        blocks = Blocks(
            partitions, item_ids, is_purchase=kinds.is_purchase, max_events=options.max_events, robots=robots
        )
        num_blocks = options.blocks_for(partitions.num_users())
        stored = tuple(write(block_bytes(block), BLOCK_TYPE) for block in blocks.make(num_blocks))
    for note in _notes(interactions, reader, tally, options):
        tally.note(note)
    _count(tally, items.values(), blocks, reader, now)
    inputs = Inputs(
        catalogue_sha256=write(catalogue_bytes(items.values()), CATALOGUE_TYPE),
        num_items=len(items),
        blocks=stored,
        num_users=blocks.num_users,
        num_interactions=blocks.num_entries,
        dropped=tuple(dropped),
        counts={code: count for code, count in sorted(tally.counts.items()) if count},
        flagged={
            code: tuple(sorted(ids)[:MAX_FLAGGED]) for code, ids in sorted(tally.flagged.items()) if ids
        },
    )
    for path, rows in zip((catalogue, interactions), dropped, strict=True):
        _check_share(path, rows, tally, options.max_dropped_share)
    return inputs


def _count(tally: Tally, items: Iterable[Item], blocks: Blocks, reader: EventReader, now: datetime) -> None:
    counts = tally.counts
    availability = [item.is_available(now) for item in items]
    counts["item_unavailable"] = availability.count(False)
    counts["item_without_interactions"] = len(availability) - blocks.num_items
    counts["duplicate"] = blocks.num_duplicates
    counts["user_cut"] = blocks.num_users_cut
    counts["event_cut"] = blocks.num_events_cut
    if reader.num_timed:
        counts["time_missing"] = reader.num_untimed
    for code, ids in tally.flagged.items():
        counts[code] = len(ids)


def _dropped(tally: Tally, num_rows: int, before: Mapping[str, int] | None = None) -> DroppedRows:
    """Return the rows dropped from the last file; `before` has the counts of the file read before it."""
    counts = Counter(tally.counts) - Counter(before or {})
    by_code = {code: count for code, count in sorted(counts.items()) if code not in _NOT_DROPPED}
    return DroppedRows(num_rows=num_rows, by_code=by_code)


def _check_share(path: Path, rows: DroppedRows, tally: Tally, max_share: float) -> None:
    """Raise InputDroppedError, with an example and hints, if too large a share of the rows was dropped."""
    most_frequent = max(rows.by_code, key=lambda code: rows.by_code[code], default="")
    example = tally.firsts.get((str(path), most_frequent))
    hints = [note for note in tally.notes if note.startswith(f"{path}: ") and "--match-ids" in note]
    sentences = ". ".join([*([] if example is None else [str(example)]), *hints])
    check_dropped(Dropped(str(path), rows.num_rows, rows.by_code, sentences), max_share)


def _notes(path: Path, reader: EventReader, tally: Tally, options: IntakeOptions) -> Iterator[str]:
    columns = options.interaction_columns
    unread = unread_columns(
        tally.columns, columns, INTERACTION_FIELDS, wanted=("time",), option="--interaction-column"
    )
    if unread is not None:
        yield f"{path}: {unread}"
    if reader.near_misses.num_events:
        yield f"{path}: {reader.near_misses}; --match-ids loose treats them as equal"
    if reader.user_example is not None:
        example = quoted(reader.user_example)
        yield f"{path}: user ids such as {example} are read as whole numbers, without their decimals"


def _nothing_kept(path: Path, item_ids: list[str], reader: EventReader, tally: Tally) -> FileRejectedError:
    if reader.unknown_items and tally.counts["unknown_item"] == reader.num_rows:
        log_ids = ", ".join(quoted(each) for each in reader.unknown_items)
        catalogue_ids = ", ".join(quoted(each) for each in item_ids[:_SHOWN_IDS])
        reason = (
            f"none of its items is in the catalogue: the log has {log_ids}; the catalogue has {catalogue_ids}"
        )
        advice = "name the column with the catalogue's ids, or check that the two files belong together"
        if reader.near_misses.num_events:
            advice = f"{reader.near_misses}; --match-ids loose treats them as equal"
        return refuse_file(path, "no_common_ids", reason, advice)
    rejected = [each for (file, _), each in tally.firsts.items() if file == str(path)]
    first = max(rejected, key=lambda each: tally.counts[each.code], default=None)
    if first is None:
        return refuse_file(
            path, "interactions_empty", "contains no interactions", "write one line per interaction"
        )
    reason = f"none of its lines can be used (for example, line {first.line} {first.reason})"
    return refuse_file(path, "interactions_empty", reason, first.advice)
