"""Makes the documents for benchmarks.sentiment, and the text pairs that its jobs pass to the classifier."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from examples.sentiment.feed import make_feed, watchlist_toml
from jobs.documents.document import Document
from jobs.inference import TextPair
from kinds.sentiment.documents.linking import Linker
from kinds.sentiment.documents.prepare import prepare
from kinds.sentiment.documents.watchlist import EntityKind, Watchlist
from kinds.sentiment.documents.watchlist_file import read_watchlist
from kinds.sentiment.stages.documents import question

CHANGED = 0.01
BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
SPAN = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Files:
    """Files for the monitor to read, and the text pairs that the jobs pass to the classifier."""

    first: Path
    grown: Path
    scattered: Path
    watch: Path
    num_documents: int
    pairs: tuple[TextPair, ...]


def make_documents(number: int) -> list[dict[str, str]]:
    """Return documents with distinct headlines about invented companies, dated within ninety days."""
    rng = Random(0)
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    seed = 0
    while len(rows) < number:
        seed += 1
        for row in make_feed(seed)[0]:
            text = " ".join(str(row.get("title") or row.get("text") or "").split())
            if len(text) < 20 or text in seen or "<" in text:
                continue
            seen.add(text)
            at = BEGIN + SPAN * rng.random()
            rows.append({"id": f"d{len(rows):06d}", "text": text, "published_at": at.isoformat()})
            if len(rows) == number:
                break
    return rows


def write_documents(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write documents as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def companies(path: Path) -> Watchlist:
    """Write and return the demo's watch list without topics, so that linking needs names, but no model."""
    path.write_text(watchlist_toml())
    watchlist = read_watchlist(path).watchlist
    kept = tuple(entity for entity in watchlist.entities if entity.kind is EntityKind.COMPANY)
    own = watchlist.model_copy(update={"entities": kept})
    company = [
        {"id": e.id, "name": e.name, "tickers": list(e.tickers), "aliases": list(e.aliases)} for e in kept
    ]
    json_path = path.with_suffix(".json")
    json_path.write_text(json.dumps({"name": "bench", "company": company}))
    return own


def pairs_of(rows: Sequence[dict[str, str]], watchlist: Watchlist) -> list[TextPair]:
    """Return the distinct text pairs that the jobs pass to the classifier."""
    linker = Linker(watchlist)
    pairs: dict[TextPair, None] = {}
    for row in rows:
        prepared = prepare(Document.model_validate(row))
        for link in linker.link(prepared):
            if not link.is_ambiguous:
                pairs.update(dict.fromkeys(map(question, link.passages)))
    return list(pairs)


def make_files(folder: Path, num_documents: int) -> Files:
    """Write a file of documents and two versions of it with more documents; keep only the pairs in memory."""
    rows = make_documents(num_documents)
    num_changed = int(num_documents * CHANGED)
    more = make_documents(num_documents + 2 * num_changed)[num_documents:]
    newest = [
        {**row, "published_at": (BEGIN + SPAN + timedelta(minutes=number)).isoformat()}
        for number, row in enumerate(more[:num_changed])
    ]
    first, grown, scattered = (folder / f"{name}.jsonl" for name in ("first", "grown", "scattered"))
    write_documents(first, rows)
    write_documents(grown, [*rows, *newest])
    write_documents(scattered, [*rows, *newest, *more[num_changed:]])
    pairs = pairs_of(rows, companies(folder / "watch.toml"))
    return Files(first, grown, scattered, folder / "watch.json", num_documents, tuple(pairs))
