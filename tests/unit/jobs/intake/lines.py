"""Files for the tests of intake, and what became of their lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.intake.payloads import Accepted, FileRejectedError, Rejected, read_lines
from kinds.article.brief import ArticleBrief
from kinds.article.kind import ArticleKind

HEADER = "id,title,topic,keywords,audience,tone,language,length,outline,facts"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What reading a file gave."""

    accepted: list[Accepted[ArticleBrief]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    refused: FileRejectedError | None = None
    """The error of the whole file, if there was one."""

    @property
    def codes(self) -> list[tuple[int, str]]:
        """Line and code of every refused line."""
        return [(rejected.line, rejected.code) for rejected in self.rejected]

    @property
    def ids(self) -> list[str]:
        return [accepted.custom_id for accepted in self.accepted]


def read(path: Path) -> Outcome:
    """Read an article file to its end."""
    outcome = Outcome()
    try:
        for line in read_lines(path, ArticleKind()):
            if isinstance(line, Rejected):
                outcome.rejected.append(line)
            else:
                outcome.accepted.append(line)
    except FileRejectedError as error:
        return Outcome(outcome.accepted, outcome.rejected, error)
    return outcome


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """A file with exactly this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(*lines: str | dict[str, object]) -> str:
    """Lines of JSON; strings stand as they are."""
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)


def csv_text(header: str, *rows: str, end: str = "\n") -> str:
    """A header and rows, each as it is."""
    rows_with_header: Sequence[str] = (header, *rows)
    return "".join(row + end for row in rows_with_header)
