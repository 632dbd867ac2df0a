"""Blocks of documents, each of which one job analyses, and their format as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from jobs.documents.document import Document
from jobs.shown import json_text
from kinds.sentiment.documents.prepare import Prepared
from kinds.sentiment.series.mention import Mention

MAX_BLOCK_DOCUMENTS = 500
"""Maximum number of documents per block. A full block of short documents takes one or two seconds of a
worker's time. That is little to repeat after a lost lease, but long in comparison with the fixed costs of a
block (a claim, look-ups, two objects, a commit)."""

MAX_BLOCK_BYTES = 2_000_000
"""Maximum bytes per block, which bounds its memory. Two of the largest documents fit into a block."""

_OVERHEAD_BYTES = 200
"""Estimated bytes of a line besides title, text and id."""


def cut_blocks(
    documents: Iterable[Document],
    *,
    max_documents: int = MAX_BLOCK_DOCUMENTS,
    max_bytes: int = MAX_BLOCK_BYTES,
) -> Iterator[tuple[Document, ...]]:
    """Divide a stream into blocks, in order; a document larger than `max_bytes` forms a block alone.

    At most one block is held in memory.
    """
    cutter = BlockCutter(max_documents=max_documents, max_bytes=max_bytes)
    for document in documents:
        if block := cutter.add(document):
            yield block
    if rest := cutter.rest():
        yield rest


class BlockCutter:
    """Collects documents until they fill a block."""

    def __init__(self, *, max_documents: int = MAX_BLOCK_DOCUMENTS, max_bytes: int = MAX_BLOCK_BYTES) -> None:
        self._max_documents = max_documents
        self._max_bytes = max_bytes
        self._block: list[Document] = []
        self._num_bytes = 0

    def add(self, document: Document) -> tuple[Document, ...]:
        """Add a document; return the block collected so far if the document does not fit, otherwise ()."""
        size = _OVERHEAD_BYTES + len((document.title + document.text + document.id).encode())
        is_full = len(self._block) == self._max_documents or self._num_bytes + size > self._max_bytes
        full = self.rest() if is_full else ()
        self._block.append(document)
        self._num_bytes += size
        return full

    def rest(self) -> tuple[Document, ...]:
        """Return the documents that were added since the last full block, and start a new block."""
        rest = tuple(self._block)
        self._block, self._num_bytes = [], 0
        return rest


def dump_block(documents: Sequence[Document]) -> bytes:
    """Return a block as JSON lines in UTF-8."""
    return b"".join(document.model_dump_json(exclude_none=True).encode() + b"\n" for document in documents)


def parse_block(body: bytes) -> tuple[Document, ...]:
    """Return the documents of a block. Raises pydantic.ValidationError if dump_block did not write it."""
    # Not splitlines: a text may contain other line separators, which JSON does not escape.
    return tuple(Document.model_validate_json(line) for line in body.split(b"\n") if line)


def analysed_line(prepared: Prepared, mentions: Sequence[Mention], *, flags: Sequence[str] = ()) -> bytes:
    """Return the line of documents.jsonl for one document: the results of its analysis, without its text.

    `flags` are added to those of the preparation.
    """
    document = prepared.document
    line = {
        "id": document.id,
        "title": prepared.title,
        "source": document.source,
        "published_at": document.published_at.isoformat(),
        "language": prepared.language,
        "flags": sorted({*prepared.flags, *flags}),
        "mentions": [_mention(mention) for mention in mentions],
    }
    return json_text(line, is_compact=True).encode() + b"\n"


def _mention(mention: Mention) -> dict[str, object]:
    return {
        "entity": mention.entity_id,
        "relevance": mention.relevance,
        "topic": mention.topic,
        "p_negative": round(mention.p_negative, 6),
        "p_neutral": round(mention.p_neutral, 6),
        "p_positive": round(mention.p_positive, 6),
        "score": round(mention.score, 6),
        "sentence": mention.sentence,
    }
