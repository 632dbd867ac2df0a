"""Which entities a document is about: names, tickers, common words, and names that two entities share."""

from __future__ import annotations

import time

import numpy as np
import pytest

from kinds.sentiment.documents.linking import Link, Linker, nearest, settle, similarities, topic_links
from kinds.sentiment.documents.prepare import prepare
from kinds.sentiment.documents.watchlist import Entity, EntityKind, Watchlist
from tests.unit.jobs.documents.files import document


def company(name: str, *aliases: str, tickers: tuple[str, ...] = (), id: str = "") -> Entity:
    return Entity(
        id=id or name.split()[0].lower().replace(".", "").replace("é", "e"),
        kind=EntityKind.COMPANY,
        name=name,
        aliases=aliases,
        tickers=tickers,
    )


WATCHED = (
    company("Acme Steel Inc.", "Acme", tickers=("ACME",)),
    company("Bolt Motors plc", "Bolt Motors", tickers=("BLTM", "BRK.B")),
    company("Apple Inc.", tickers=("AAPL",)),
    company("Target Corporation", tickers=("TGT",)),
    company("Best Buy Co., Inc.", tickers=("BBY",)),
    company("The Allstate Corporation", tickers=("ALL",)),
    company("Gartner", tickers=("IT",)),
    company("Caterpillar Inc", tickers=("CAT",)),
    company("Ford Motor Company", "Ford", tickers=("F",)),
    company("Nestlé SA"),
    company("Johnson & Johnson", tickers=("JNJ",)),
    company("J.P. Morgan"),
    company("State Bank", "SBI", id="sbi"),
    Entity(id="oil", kind=EntityKind.TOPIC, name="oil price", aliases=("crude",)),
)
LINKER = Linker(Watchlist(name="w", entities=WATCHED))


def links(text: str, title: str = "") -> list[Link]:
    return LINKER.link(prepare(document(text, title=title)))


def ids(text: str, title: str = "") -> list[str]:
    """Return the certain entities in the order of the text."""
    return [link.entity_id for link in links(text, title) if not link.is_ambiguous]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Acme rises", ["acme"]),
        ("Acme's profit, and Acme’s loss", ["acme"]),
        ("acme steel inc said", ["acme"]),
        ("ACME STEEL INC. FALLS", ["acme"]),
        ("Shares of #Acme rise", ["acme"]),
        ("Acme-backed lender rises", ["acme"]),
        ("Acmex rises, pre-Acme days, Acme.com, https://acme.com/acme, me@acme.com", []),
        ("Nestle rises", ["nestle"]),
        ("NESTLÉ rises", ["nestle"]),
        ("Johnson and Johnson rises", ["johnson"]),
        ("JP Morgan cuts", ["jp"]),
        ("oil prices rise, crude too", ["oil"]),
        ("Acmes revenue falls as Bolt Motors grows", ["acme", "bolt"]),
        ("Bolt tightened", []),
        ("SBI cuts rates", ["sbi"]),
        ("the sbi form", []),
        ("He said (NYSE: ACME) it fell", ["acme"]),
        ("NASDAQ:AAPL at a high", ["apple"]),
        ("$aapl up, $ACME down", ["apple", "acme"]),
        ("holding $ aapl today", ["apple"]),
        ("we sold AAPL and BRK.B", ["apple", "bolt"]),
        ("US$AAPL and A$TGT", []),
    ],
)
def test_mentions_are_found_as_words_of_their_own(text: str, expected: list[str]) -> None:
    assert ids(text) == expected or sorted(ids(text)) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALL sectors fall, IT stocks and a CAT scan, grade F", []),
        ("$ALL and $IT fall, $CAT rises, $F too", ["the", "gartner", "caterpillar", "ford"]),
        ("Shares (NYSE: F) fell; (NYSE: ALL) rose", ["ford", "the"]),
        ("Buy all $ all you can", []),
    ],
)
def test_ticker_that_is_a_word_counts_only_with_a_mark(text: str, expected: list[str]) -> None:
    assert sorted(ids(text)) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("analysts say that Apple is ahead", ["apple"]),
        ("An apple a day keeps them away", None),
        ("A target of 50 for the stock", None),
        ("Goldman raises the target of Target Corp by ten", ["target"]),
        ("That is a best buy for now", None),
        ("they shop at Best Buy for phones", ["best"]),
    ],
)
def test_word_that_is_a_name_counts_by_its_capital(text: str, expected: list[str] | None) -> None:
    assert [link.entity_id for link in links(text) if not link.is_ambiguous] == (expected or [])
    if expected is None:
        assert links(text) == []


@pytest.mark.parametrize(
    "text", ["Target raised to 50 by brokers", "GOLDMAN CUTS TARGET", "i love apple today"]
)
def test_word_without_any_sign_is_left_to_the_embedding(text: str) -> None:
    (link,) = links(text)
    assert link.is_ambiguous


def test_one_sure_mention_makes_the_others_sure() -> None:
    (link,) = links("Target raises its outlook. $TGT up. target says more.")
    assert (link.is_ambiguous, link.num_mentions, link.passages[0].target) == (False, 2, "Target")


def test_longest_name_wins() -> None:
    linker = Linker(Watchlist(name="w", entities=(company("Bank of America"), company("America", id="usa"))))
    found = linker.link(prepare(document("Shares of Bank of America fall in America")))
    assert [(link.entity_id, link.passages[0].target) for link in found] == [
        ("bank", "Bank of America"),
        ("usa", "America"),
    ]


DELTA = (
    company("Delta Air Lines", "Deltacorp", tickers=("DAL",), id="air"),
    company("Deltacorp Gaming", "Deltacorp", tickers=("DLTG",), id="gaming"),
)


def test_name_of_two_entities_is_ambiguous_until_the_document_tells() -> None:
    linker = Linker(Watchlist(name="w", entities=DELTA))
    unsure = linker.link(prepare(document("Deltacorp rises on strong demand")))
    assert [(link.entity_id, link.is_ambiguous, link.start) for link in unsure] == [
        ("air", True, 0),
        ("gaming", True, 0),
    ]
    (sure,) = linker.link(prepare(document("Deltacorp rises on strong demand. $DAL to the moon")))
    assert (sure.entity_id, sure.is_ambiguous, sure.num_mentions) == ("air", False, 2)


def test_shared_name_is_settled_by_the_nearer_description_or_dropped() -> None:
    unsure = Linker(Watchlist(name="w", entities=DELTA)).link(prepare(document("Deltacorp rises")))
    kept, is_dropped = settle(unsure, {"air": 0.5, "gaming": 0.2})
    assert ([link.entity_id for link in kept], is_dropped) == (["air"], False)
    for cosines in ({"air": 0.5, "gaming": 0.49}, {"air": 0.05, "gaming": 0.0}, {}):
        assert settle(unsure, cosines) == ([], True)


def test_word_without_a_description_counts_if_it_is_written_as_a_name() -> None:
    assert len(settle(links("Target raised to 50 by brokers"), {})[0]) == 1
    assert settle(links("i love apple today"), {}) == ([], True)
    assert settle(links("Target raised to 50 by brokers"), {"target": -0.1}) == ([], True)


def test_three_companies_get_three_rows_with_the_clause_of_each() -> None:
    found = links("Acme surges 5% on results; Bolt Motors slides after a warning while Nestle is flat")
    assert [(link.entity_id, link.passages[0].sentence) for link in found] == [
        ("acme", "Acme surges 5% on results"),
        ("bolt", "Bolt Motors slides after a warning"),
        ("nestle", "Nestle is flat"),
    ]


@pytest.mark.parametrize(
    "text", ["Acme, Bolt Motors and Nestle rise on hopes of a deal", "Acme to buy Bolt Motors for $3 billion"]
)
def test_list_of_names_is_one_clause(text: str) -> None:
    assert {link.passages[0].sentence for link in links(text)} == {text}


def test_each_sentence_that_names_an_entity_is_a_passage_up_to_three() -> None:
    text = (
        "Acme met analysts. Ford was there. ACME warned of a loss. Acme met analysts. Acme rose. Acme fell."
    )

    [acme, ford] = links(text)

    assert [(each.sentence, each.target) for each in acme.passages] == [
        ("Acme met analysts.", "Acme"),
        ("ACME warned of a loss.", "ACME"),
        ("Acme rose.", "Acme"),
    ]
    assert [each.sentence for each in ford.passages] == ["Ford was there."]


def test_passages_of_a_shared_sentence_are_its_clauses() -> None:
    [acme, bolt] = links("Acme met analysts. Acme surges on results, Bolt Motors slides after a warning.")

    assert [each.sentence for each in acme.passages] == ["Acme met analysts.", "Acme surges on results"]
    assert [each.sentence for each in bolt.passages] == ["Bolt Motors slides after a warning."]


def test_relevance_falls_from_title_to_passing_mention() -> None:
    filler = "Nothing of note was said by anybody. " * 30
    alone = links("", title="Acme beats estimates")[0].relevance
    shared = links("", title="Acme beats estimates as Nestle falls")[0].relevance
    first = links(f"Acme fell today. {filler}")[0].relevance
    passing = links(f"{filler} So did Acme. {filler}")[0].relevance
    assert 100 == alone > shared > first > passing > 0


def test_target_is_the_text_as_it_stands() -> None:
    (link,) = links("It says NESTLÉ’s water is safe")
    assert link.passages[0].target == "NESTLÉ"
    assert link.start == 8


def test_paragraph_break_parts_a_name_and_a_line_break_does_not() -> None:
    assert ids("They like Bolt\nMotors today") == ["bolt"]
    assert ids("They like Bolt\n\nMotors today") == []


@pytest.mark.parametrize("unit", ["Acme said Apple and $F rise. ", "Acme and Apple and $F "])
def test_200_kilobytes_are_linked_in_time_that_grows_with_the_text(unit: str) -> None:
    prepared = prepare(document(unit * (200_000 // len(unit))))
    begin = time.process_time()
    found = LINKER.link(prepared)
    assert {link.entity_id for link in found} == {"acme", "apple", "ford"}
    assert time.process_time() - begin < 30


def test_sentence_without_an_end_is_cut_around_the_mention() -> None:
    (link,) = links("word " * 500 + "Acme " + "word " * 500)
    assert len(link.passages[0].sentence) <= 600
    assert "Acme" in link.passages[0].sentence


def test_watch_list_of_topics_alone_needs_no_tickers() -> None:
    linker = Linker(Watchlist(name="w", entities=(Entity(id="gold", kind=EntityKind.TOPIC, name="gold"),)))
    assert [
        link.passages[0].target for link in linker.link(prepare(document("Gold up, golds down, golden age")))
    ] == ["Gold"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("IT stocks rise", ["tech"]),
        ("ITs and IT", ["tech"]),
        ("Its owner says it is over", []),
        ("INDIA'S IT STOCKS RISE", ["tech"]),
        ("An ipo, then two IPOs", ["listings"]),
    ],
)
def test_topic_in_capitals_that_is_a_word_otherwise_needs_them(text: str, found: list[str]) -> None:
    topics = (
        Entity(id="tech", kind=EntityKind.TOPIC, name="IT"),
        Entity(id="listings", kind=EntityKind.TOPIC, name="IPO"),
    )
    linker = Linker(Watchlist(name="w", entities=topics))
    assert [link.entity_id for link in linker.link(prepare(document(text)))] == found


def test_vectors_choose_topics_and_entities() -> None:
    document_vector = np.array([1.0, 0.0], np.float32)
    near, far = np.array([0.8, 0.6], np.float32), np.array([0.0, 1.0], np.float32)
    assert list(topic_links(document_vector, {"far": far, "near": near})) == ["near"]
    assert topic_links(document_vector, {}) == {}
    assert nearest(similarities(document_vector, {"far": far, "near": near})) == "near"
    assert nearest(similarities(document_vector, {"far": far})) is None
    assert nearest(similarities(document_vector, {})) is None
