"""The stage `collect`: reads a source and divides the documents that were not analysed before into blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from jobs.documents.document import Document
from jobs.kind import Artifact, Context, Parent, Result
from jobs.rejection import Rejected
from jobs.shown import json_text
from jobs.sources import Sources
from kinds.sentiment.document_filter import DocumentFilter
from kinds.sentiment.documents.blocks import cut_blocks, dump_block
from kinds.sentiment.history import History
from kinds.sentiment.payload import CollectOutput, CollectPayload, SentimentSettings

JSONL = "application/jsonl"

MAX_REJECTED_LISTED = 10_000
"""Maximum number of refused records that are listed one by one; all are counted."""

MAX_NOTES = 20
"""Maximum number of notes about a source; a folder can cause one for each file."""


def collect(payload: CollectPayload, settings: SentimentSettings, context: Context) -> Result:
    """Read the source and store its new documents as blocks.

    Raises SourceError if the source is unreachable or hostile, and what the ports raise.
    """
    known = DocumentFilter(context.port(History), monitor_id=settings.monitor_id, analysis=settings.analysis)
    refusals = _Refusals()
    notes: list[str] = []
    read = context.port(Sources).fetch(payload.source, known.records, notes.append)
    stored = [
        context.resources.write(dump_block(block), media_type=JSONL)
        for block in cut_blocks(refusals.accepted(known.unknown(read)))
    ]
    return Result(
        artifacts=(Artifact(name="rejected.jsonl", media_type=JSONL, body=refusals.lines()),),
        output=CollectOutput(blocks=tuple(stored)),
        metrics={
            "num_read": known.num_read,
            "num_known": known.num_known,
            "num_rejected": refusals.num_rejected,
            "rejected": dict(refusals.by_code),
            "notes": notes[:MAX_NOTES],
        },
        records=tuple(known.record_digests()),
        parents=tuple(Parent("block", f"block-{number}", sha256) for number, sha256 in enumerate(stored)),
    )


class _Refusals:
    """Removes the refused records from a stream, and counts them."""

    def __init__(self) -> None:
        self.by_code: Counter[str] = Counter()
        self._listed: list[Rejected] = []

    @property
    def num_rejected(self) -> int:
        return self.by_code.total()

    def accepted(self, stream: Iterable[Document | Rejected]) -> Iterator[Document]:
        for record in stream:
            if isinstance(record, Document):
                yield record
                continue
            self.by_code[record.code] += 1
            if len(self._listed) < MAX_REJECTED_LISTED:
                self._listed.append(record)

    def lines(self) -> bytes:
        rows = (json_text(rejected.as_json()) for rejected in self._listed)
        return "".join(f"{row}\n" for row in rows).encode()
