"""Refusing a document does not affect the others in its feed, file or block."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import kinds.sentiment.entity_links as links_module
from jobs.documents.document import Document
from jobs.documents.reading import read_documents, read_feed
from jobs.errors import TransientError
from jobs.inference import Embedding, Inference, TextPair, classified, embedded
from jobs.rejection import Refusal, Rejected
from jobs.text.plain import clean_text, normalise, unescape
from kinds.sentiment.documents.prepare import Prepared, prepare
from kinds.sentiment.documents.watchlist import Entity, EntityKind, Watchlist
from kinds.sentiment.documents.watchlist_file import canonical_watchlist
from kinds.sentiment.entity_links import link_documents, prepare_watchlist
from tests.unit.jobs.documents.files import write

pytestmark = pytest.mark.attack("poisonous document among good ones")
NOW = datetime(2026, 3, 2, tzinfo=UTC)

BOMBS = {
    "a number of 5,000 digits": "&#" + "9" * 5_000,
    "with its end": "&#" + "9" * 5_000 + ";",
    "of zeros": "&#" + "0" * 5_000 + "65;",
    "in hexadecimal": "&#x" + "f" * 5_000 + ";",
    "escaped twice": "&amp;#" + "9" * 5_000 + ";",
    "deep markup": "<div>" * 20_000,
    "open comments": "<!--" * 1_000,
    "open sections": "<![CDATA[" * 1_000,
    "formulas": "$\\frac{$ $$ ^_{",
    "control characters": "\x01\x7f\u202e\ue000\uffff",
    "marks on a letter": "a" + "\u0301" * 20_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_text_of_any_kind_is_cleaned_and_normalised(bomb: str) -> None:
    document = Document(id="d", title=f"Acme {bomb}", text=f"Acme rises. {bomb}", published_at=NOW)
    assert prepare(document).text.startswith("Acme")
    assert normalise(f"Acme {bomb}").startswith("Acme")
    assert clean_text(f"Acme {bomb}").text.startswith("Acme")


@given(st.text("&#xX0123456789abcdefg;lt ", max_size=40))
def test_character_references_are_those_of_html(text: str) -> None:
    assert unescape(text) == html.unescape(text)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_entry_of_a_feed_fails_no_other(bomb: str) -> None:
    items = "".join(
        f"<item><guid>{name}</guid><title>Acme {name}</title><description>{text}</description>"
        "<pubDate>1 Mar 2024 10:00 GMT</pubDate></item>"
        for name, text in (("first", "It rises"), ("bomb", bomb), ("last", "It falls"))
    )
    made = list(read_feed("feed", f"<rss version='2.0'><channel>{items}</channel></rss>".encode(), now=NOW))
    assert [one.id for one in made if isinstance(one, Document) and one.id != "bomb"] == ["first", "last"]
    assert [one.line for one in made if isinstance(one, Rejected)] in ([], [2])
    assert len(made) == 3


def test_row_of_parquet_that_python_cannot_hold_fails_no_other(tmp_path: Path) -> None:
    times = pa.array([1_714_521_600, 10**12, 1_714_521_601], pa.timestamp("s"))
    table = pa.table({"id": ["a", "b", "c"], "text": ["Acme rises"] * 3, "published_at": times})
    parquet.write_table(table, tmp_path / "a.parquet")
    made = list(read_documents(tmp_path / "a.parquet", now=NOW))
    assert [one.id for one in made if isinstance(one, Document)] == ["a", "c"]
    assert [(one.line, one.code) for one in made if isinstance(one, Rejected)] == [(2, "row_unreadable")]


@pytest.mark.parametrize("error", [RecursionError("deep"), ValueError("bad"), OverflowError("big")])
def test_record_that_makes_the_reader_fail_is_refused_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from jobs.documents import maker

    own = maker.normal_language

    def language(tag: str) -> str | None:
        if tag == "bomb":
            raise error
        return own(tag)

    monkeypatch.setattr(maker, "normal_language", language)
    rows = "".join(f"{n},Acme rises,2024-05-01,{'bomb' if n == 150 else 'en'}\n" for n in range(301))
    made = list(read_documents(write(tmp_path, "a.csv", f"id,text,date,language\n{rows}"), now=NOW))
    assert len([one for one in made if isinstance(one, Document)]) == 300
    ((refused),) = [one for one in made if isinstance(one, Rejected)]
    assert (refused.id, refused.code, refused.line) == ("150", "row_unreadable", 152)


@dataclass
class Model:
    """An embedder and classifier that fails on some texts in the way libraries do."""

    fails_with: BaseException | None = None
    number: float = 1.0
    num_calls: int = 0
    asked: list[str] = field(default_factory=list)

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> tuple[tuple[float, ...], ...]:
        self.num_calls += 1
        if self.fails_with is not None and any("bomb" in text for text in texts):
            raise self.fails_with
        return tuple((self.number if "bomb" in text else 1.0, 0.0) for text in texts)

    def embeddings(self, texts: Sequence[str], *, model: str | None = None) -> tuple[Embedding, ...]:
        raise NotImplementedError


class PanicException(BaseException):
    """An exception like the one that the tokenizer's library raises."""


ENTITIES = (
    Entity(id="acme", kind=EntityKind.COMPANY, name="Acme", description="Makes steel."),
    Entity(id="tariffs", kind=EntityKind.TOPIC, name="tariffs", description="Duties on imports."),
)


def analyse(model: Model) -> tuple[list[str], dict[str, Refusal]]:
    documents = [
        Document(id=f"d{n}", text="Acme bomb rises" if n == 200 else f"Acme rises {n}", published_at=NOW)
        for n in range(301)
    ]
    refused: dict[str, Refusal] = {}
    analyses = link_documents(
        documents,
        prepare_watchlist(canonical_watchlist(Watchlist(name="steel", entities=ENTITIES))),
        model,  # type: ignore[arg-type]  # it only embeds
        embedder="minilm",
        refuse=lambda document, refusal: refused.update({document.id: refusal}),
    )
    return [each.prepared.document.id for each in analyses], refused


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (Model(fails_with=PanicException("index out of bounds")), "row_unreadable"),
        (Model(fails_with=ValueError("no text")), "row_unreadable"),
        (Model(number=float("nan")), "answer_not_finite"),
        (Model(number=float("inf")), "answer_not_finite"),
    ],
)
def test_text_that_the_model_cannot_take_fails_no_other_of_its_block(model: Model, code: str) -> None:
    analysed, refused = analyse(model)
    assert len(analysed) == 300
    assert {id_: each.code for id_, each in refused.items()} == {"d200": code}
    assert model.num_calls <= 20


def test_document_that_cannot_be_prepared_fails_no_other_of_its_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fragile(document: Document) -> Prepared:
        if "bomb" in document.text:
            raise RecursionError("maximum recursion depth exceeded")
        return prepare(document)

    monkeypatch.setattr(links_module, "prepare", fragile)
    analysed, refused = analyse(Model())
    assert len(analysed) == 300
    assert "RecursionError" in refused["d200"].reason


def test_engine_that_is_down_refuses_no_document() -> None:
    with pytest.raises(TransientError):
        analyse(Model(fails_with=TransientError("the engine is gone")))


def test_classifier_and_embedder_are_asked_through_the_guard() -> None:
    class Lost(Model):
        def classify(self, pairs: Sequence[TextPair], *, calibrated: bool = True) -> tuple[object, ...]:
            raise ValueError("bomb")

    model: Inference = Lost(fails_with=ValueError("bomb"))  # type: ignore[assignment]
    assert [isinstance(one, Refusal) for one in embedded(["a bomb", "b"], model, model="m")] == [True, False]
    assert all(isinstance(one, Refusal) for one in classified([TextPair("a"), TextPair("b")], model))
