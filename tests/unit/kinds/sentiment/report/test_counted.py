"""The file of counted documents, and what names all of them in the report's statement."""

from __future__ import annotations

import hashlib
import json
import random

from kinds.sentiment.report.counted import counted_digest, counted_lines, counted_parent
from tests.unit.kinds.sentiment.report.samples import LAST, counted, window

IDS = ["b", "a", "Ä", "\N{ROCKET}", "https://example.com/?a=1&b=2", "with space", 'quo"te', "\ufb00"]


def test_file_and_digest_are_the_same_in_any_order() -> None:
    documents = [counted(id_) for id_ in IDS]
    shuffled = random.Random(1).sample(documents, len(documents))

    assert counted_lines(shuffled) == counted_lines(documents)
    assert counted_digest(shuffled) == counted_digest(documents)


def test_digest_can_be_computed_from_the_file_alone() -> None:
    documents = [counted(id_) for id_ in IDS]

    rows = [json.loads(line) for line in counted_lines(documents).decode().split("\n") if line]

    assert [row["document_id"] for row in rows] == sorted(IDS, key=str.encode)
    again = hashlib.sha256()
    for row in rows:
        again.update(f"{row['sha256']} {row['document_id']}\n".encode())
    assert again.hexdigest() == counted_digest(documents)


def test_digest_is_another_for_another_version_of_one_document() -> None:
    documents = [counted("a"), counted("b")]

    assert counted_digest(documents) != counted_digest([counted("a"), counted("b", sha256="2" * 64)])
    assert counted_digest(documents) != counted_digest(documents[:1])


def test_numbers_in_the_file_are_exact() -> None:
    document = counted("a", p_negative=0.1 + 0.2, p_positive=1 / 3)

    row = json.loads(counted_lines([document]))

    assert (row["p_negative"], row["p_positive"]) == (0.1 + 0.2, 1 / 3)
    assert row["score"] == document.score
    assert row["published_at"] == "2026-03-01T00:00:00Z"


def test_parent_is_named_after_the_window() -> None:
    parent = counted_parent(window(LAST), [counted("a")])

    assert (parent.role, parent.name) == ("documents", "northvale-steel/day/2026-03-01T00:00:00Z")
    assert parent.sha256 == hashlib.sha256(f"{'1' * 64} a\n".encode()).hexdigest()
