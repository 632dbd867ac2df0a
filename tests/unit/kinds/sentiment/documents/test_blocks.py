"""Blocks carry any documents unchanged, and are bounded in number and size."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.documents.document import Document, document_digest, version_number
from kinds.sentiment.documents.blocks import analysed_line, cut_blocks, dump_block, parse_block
from kinds.sentiment.documents.prepare import prepare
from kinds.sentiment.series.mention import Mention
from tests.unit.jobs.documents.files import NOW, document

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
DOCUMENTS = st.lists(
    st.builds(
        Document,
        id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        text=TEXT,
        title=TEXT,
        source=TEXT,
        published_at=st.datetimes(
            datetime(1990, 1, 1),  # noqa: DTZ001
            datetime(2100, 1, 1),  # noqa: DTZ001
            timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
        ),
        language=st.sampled_from([None, "en", "de"]),
    ),
    max_size=8,
)
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""On a busy machine drawing is slow, which is no fault of what is tested."""


@UNHURRIED
@given(DOCUMENTS)
def test_block_comes_back_as_it_went(documents: list[Document]) -> None:
    body = dump_block(documents)
    assert list(parse_block(body)) == documents
    assert body.count(b"\n") == len(documents)
    assert [document_digest(one) for one in parse_block(body)] == [document_digest(one) for one in documents]


@UNHURRIED
@given(DOCUMENTS, st.integers(1, 5), st.integers(1, 2_000))
def test_blocks_hold_every_document_once_in_order(
    documents: list[Document], max_documents: int, max_bytes: int
) -> None:
    made = list(cut_blocks(documents, max_documents=max_documents, max_bytes=max_bytes))
    assert [one for block in made for one in block] == documents
    assert all(1 <= len(block) <= max_documents for block in made)


def test_long_documents_make_short_blocks() -> None:
    long = [document("a" * 900_000, id=str(number)) for number in range(5)]
    assert [len(block) for block in cut_blocks(long)] == [2, 2, 1]


@UNHURRIED
@given(TEXT, TEXT, TEXT)
def test_digest_names_what_was_analysed(title: str, text: str, source: str) -> None:
    one = Document(id="1", title=title, text=text, source=source, published_at=NOW)
    assert document_digest(one) == document_digest(one.model_copy(update={"id": "2"}))
    for field in ("title", "text", "source"):
        changed = one.model_copy(update={field: getattr(one, field) + "x"})
        assert document_digest(one) != document_digest(changed)
    later = one.model_copy(update={"published_at": datetime(2025, 1, 1, tzinfo=UTC)})
    assert document_digest(one) != document_digest(later)


def test_versions_are_ordered_by_time_then_by_digest() -> None:
    early, late = document("b"), document("a").model_copy(update={"published_at": NOW.replace(year=2025)})
    other = document("c")
    assert version_number(early) < version_number(late)
    assert version_number(early) != version_number(other)


def test_analysed_line_says_what_was_found_and_not_the_text() -> None:
    prepared = prepare(document("<p>Acme falls</p>", title="News"))
    mention = Mention(
        document_id="d", entity_id="acme", published_at=NOW, relevance=80, topic=None, p_negative=0.7,
        p_neutral=0.2, p_positive=0.1, sentence="Acme falls", title="News", source="",
        signature=prepared.signature,
    )  # fmt: skip
    line = analysed_line(prepared, [mention], flags=["ambiguous_name"])
    fields = json.loads(line)
    assert line.endswith(b"\n")
    assert fields["flags"] == ["ambiguous_name", "html_removed"]
    assert fields["mentions"] == [
        {
            "entity": "acme",
            "relevance": 80,
            "topic": None,
            "p_negative": 0.7,
            "p_neutral": 0.2,
            "p_positive": 0.1,
            "score": -0.6,
            "sentence": "Acme falls",
        }
    ]
    assert "text" not in fields
