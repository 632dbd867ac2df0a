"""Compares ranking methods on a split of a log, with or without a catalogue, for `pressroom evaluate`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.compute as pc

from jobs.documents.reading import OnNote
from jobs.rejection import Rejected
from kinds.recommendation.catalogue.columns import as_dictionary
from kinds.recommendation.catalogue.event_batches import event_batches
from kinds.recommendation.catalogue.ingest import ingest
from kinds.recommendation.catalogue.inputs import IntakeOptions
from kinds.recommendation.catalogue.interactions import read_block_bytes
from kinds.recommendation.catalogue.item import Item, read_catalogue_bytes
from kinds.recommendation.catalogue.item_reader import MAX_ID_CHARACTERS
from kinds.recommendation.catalogue.tally import Tally
from kinds.recommendation.ranking.evaluation import Evaluation, Log, Split, evaluate, log_of
from kinds.recommendation.ranking.settings import RankingSettings


@dataclass(frozen=True, slots=True)
class RankingEvaluation:
    """Result of an evaluation."""

    figures: Evaluation
    counts: Mapping[str, int]
    """Counts of what was noticed during ingest, by code."""

    def as_json(self) -> dict[str, object]:
        """Return the figures rounded to five decimals."""
        return {**self.figures.as_json(), "noticed": dict(self.counts)}


@dataclass(frozen=True, slots=True)
class _Read:
    log: Log
    items: tuple[Item, ...]
    counts: Mapping[str, int]


def evaluate_files(
    interactions: Path,
    catalogue: Path | None,
    split: Split,
    *,
    seed: int,
    k: int,
    settings: RankingSettings,
    intake: IntakeOptions,
    on_rejected: Callable[[Rejected], None],
    on_note: OnNote | None = None,
) -> RankingEvaluation:
    """Read the files, split the log, fit and measure, all in this process and in memory.

    Raises FileRejectedError, ColumnMappingError, SplitInvalidError or NothingHeldOutError.
    """
    with TemporaryDirectory(prefix="pressroom-") as folder:
        ids = _ids_as_catalogue(interactions, intake, Path(folder)) if catalogue is None else catalogue
        read = _read(interactions, ids, intake, on_rejected, on_note)
    items = None if catalogue is None else read.items
    figures = evaluate(read.log, items, split, seed=seed, k=k, settings=settings)
    return RankingEvaluation(figures, read.counts)


def _read(
    interactions: Path,
    catalogue: Path,
    intake: IntakeOptions,
    on_rejected: Callable[[Rejected], None],
    on_note: OnNote | None,
) -> _Read:
    """Ingest the files as a refresh does, but keep the resources in memory."""
    kept: dict[str, bytes] = {}

    def write(body: bytes, _media_type: str) -> str:
        sha256 = hashlib.sha256(body).hexdigest()
        kept[sha256] = body
        return sha256

    inputs = ingest(
        catalogue,
        interactions,
        options=intake,
        write=write,
        on_rejected=on_rejected,
        now=datetime.now(UTC),
        on_note=on_note,
    )
    blocks = [read_block_bytes(kept[sha256]) for sha256 in inputs.blocks]
    return _Read(log_of(blocks), read_catalogue_bytes(kept[inputs.catalogue_sha256]), inputs.counts)


def _ids_as_catalogue(interactions: Path, intake: IntakeOptions, folder: Path) -> Path:
    """Write a catalogue of the log's item ids only; faults in the log's lines are reported later."""
    found: set[str] = set()
    for batch in event_batches(interactions, intake.interaction_columns, Tally(), intake.file_options()):
        texts, _ = as_dictionary(batch.columns["item"])
        found.update(pc.unique(texts).to_pylist())
    path = folder / "ids.jsonl"
    with path.open("w", encoding=intake.encoding or "utf-8") as lines:
        for item_id in sorted(found):
            if 0 < len(item_id) <= MAX_ID_CHARACTERS:
                lines.write(json.dumps({"id": item_id, "title": item_id}) + "\n")
    return path
