"""Catalogues and logs for tests, and the results of ingesting them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from jobs.rejection import Rejected
from kinds.recommendation.catalogue.ingest import ingest
from kinds.recommendation.catalogue.inputs import Inputs, IntakeOptions
from kinds.recommendation.catalogue.interactions import UserBlock, read_block_bytes
from kinds.recommendation.catalogue.item import Item, read_catalogue_bytes

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
Row = Mapping[str, object]

GOODS = "id,title,price\ntent,Tent,99.50\nmug,Mug,8\nrope,Rope,120\n"
LOG = "user,item\nann,tent\nann,mug\nbob,mug\n"

Entry = tuple[str, str, float, int, bool]
"""User, item, weight, time, and whether it was a purchase."""


@dataclass(frozen=True, slots=True)
class IngestResult:
    """Result of ingesting two files."""

    inputs: Inputs
    resources: Mapping[str, bytes]
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Counts of faults, without the counts that any catalogue may have."""
        usual = ("item_unavailable", "item_without_interactions")
        return {code: count for code, count in self.inputs.counts.items() if code not in usual}

    @property
    def codes(self) -> list[tuple[int, str]]:
        return [(rejected.line, rejected.code) for rejected in self.rejected]

    @property
    def items(self) -> dict[str, Item]:
        return {item.id: item for item in read_catalogue_bytes(self.resources[self.inputs.catalogue_sha256])}

    @property
    def blocks(self) -> list[UserBlock]:
        return [read_block_bytes(self.resources[sha256]) for sha256 in self.inputs.blocks]

    @property
    def entries(self) -> list[Entry]:
        """Entries of all blocks, in order."""
        return [entry for block in self.blocks for entry in entries_of(block)]


def entries_of(block: UserBlock) -> list[Entry]:
    """Return the entries of a block as rows."""
    return [
        (
            user_id,
            block.item_ids[block.items[entry]],
            float(block.weights[entry]),
            int(block.times[entry]),
            bool(block.is_purchase[entry]),
        )
        for user, user_id in enumerate(block.user_ids)
        for entry in range(block.indptr[user], block.indptr[user + 1])
    ]


def ingest_files(catalogue: Path, interactions: Path, **options: object) -> IngestResult:
    """Ingest both files at NOW, however many of their rows are dropped."""
    resources: dict[str, bytes] = {}
    rejected: list[Rejected] = []

    def write(body: bytes, media_type: str) -> str:
        sha256 = hashlib.sha256(body).hexdigest()
        resources[sha256] = body
        return sha256

    inputs = ingest(
        catalogue,
        interactions,
        options=IntakeOptions.model_validate({"max_dropped_share": 1} | options),
        write=write,
        on_rejected=rejected.append,
        now=NOW,
    )
    return IngestResult(inputs, resources, rejected)


def ingest_texts(
    folder: Path, *, goods: str | bytes = GOODS, log: str | bytes = LOG, **options: object
) -> IngestResult:
    """Ingest two files with exactly these contents, which are JSONL if they look like it."""
    return ingest_files(write(folder, "goods", goods), write(folder, "log", log), **options)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a file with exactly this content; its format is detected from its beginning."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def write_rows(folder: Path, name: str, rows: Sequence[Row]) -> Path:
    """Write the rows in the format that the name's suffix gives."""
    path = folder / name
    if ".parquet" in name:
        parquet.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    if ".jsonl" in name:
        content = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines: list[Sequence[object]] = [columns, *([row.get(name) for name in columns] for row in rows)]
        content = "".join(",".join(_cell(value) for value in line) + "\n" for line in lines)
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return path


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text
