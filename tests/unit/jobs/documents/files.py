"""Files of documents for tests, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from jobs.documents.document import Document
from jobs.documents.reading import Reading, read_documents
from jobs.rejection import FileRejectedError, Rejected

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
GOOD = {"id": "good", "text": "Bolt rises", "published_at": "2024-05-01"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What reading a file gave."""

    documents: list[Document] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    refused: FileRejectedError | None = None
    """The error of the whole file, if there was one."""
    reading: Reading | None = None

    @property
    def ids(self) -> list[str]:
        return [document.id for document in self.documents]

    @property
    def codes(self) -> list[tuple[int, str]]:
        """Line and code of every refused line."""
        return [(rejected.line, rejected.code) for rejected in self.rejected]


def read(path: Path, columns: dict[str, str] | None = None) -> Outcome:
    """Read a file to its end, at NOW."""
    reading = read_documents(path, now=NOW, columns=columns)
    outcome = Outcome(reading=reading)
    try:
        for made in reading:
            if isinstance(made, Rejected):
                outcome.rejected.append(made)
            else:
                outcome.documents.append(made)
    except FileRejectedError as error:
        return Outcome(outcome.documents, outcome.rejected, error, reading)
    return outcome


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """A file with exactly this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(*lines: str | Mapping[str, object]) -> str:
    """Lines of JSON; strings stand as they are."""
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)


def refusal_of(folder: Path, line: str | dict[str, object]) -> str:
    """The code of one bad line of JSON between good ones, which must be read."""
    first: dict[str, object] = {**GOOD, "id": "first"}
    outcome = read(write(folder, "a.jsonl", jsonl(first, line, dict(GOOD))))
    assert outcome.ids == ["first", "good"]
    (rejected,) = outcome.rejected
    assert rejected.line == 2
    return rejected.code


def document(text: str, *, title: str = "", language: str | None = None, id: str = "d") -> Document:
    """A document of NOW."""
    return Document(id=id, text=text, title=title, language=language, published_at=NOW)
