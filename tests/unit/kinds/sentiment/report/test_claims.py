"""A summary may state only numbers, names and directions that the facts support."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kinds.sentiment.report.claims import Point, Quantity, Unit, find_fault
from kinds.sentiment.report.summary import make_points
from tests.unit.kinds.sentiment.report.samples import facts

VOLUME, MOOD, NEGATIVES = make_points(facts())
"""12 documents against 4 a day; a score of −0.67 against +0.05; 9 of 12 negative, 75% against 25%."""

TRUE = (
    (VOLUME, "Northvale Steel was in 12 documents on 1 March 2026, more than its usual 4 a day."),
    (
        VOLUME,
        "On March 1, 2026 there were twelve documents about Northvale Steel, up from its usual 4.0 a day.",
    ),
    (MOOD, "The mood about Northvale Steel was negative: its score fell to −0.67, from +0.05 in the past."),
    (MOOD, "The score of Northvale Steel fell to -0.7."),
    (NEGATIVES, "Of the 12 documents about Northvale Steel, 9 were negative: 75%, against 25% in the past."),
    (NEGATIVES, "75 percent of the documents were negative, up from 25 percent in the past."),
    (NEGATIVES, "9 of the 12 documents about Northvale Steel were negative."),
)
FALSE = (
    (VOLUME, "Northvale Steel was in 13 documents on 1 March 2026.", "number"),
    (VOLUME, "Northvale Steel was in 12.5 documents.", "number"),
    (VOLUME, "Northvale Steel was in 12 documents on 2 March 2026.", "number"),
    (VOLUME, "Northvale Steel was in twenty-two documents.", "number"),
    (VOLUME, "Northvale Steel was in 12% of documents.", "number"),
    (VOLUME, "Northvale Steel was in 4 documents, fewer than its usual 12 a day.", "role"),
    (VOLUME, "Northvale Steel was in 12 documents, fewer than its usual 4 a day.", "direction"),
    (VOLUME, "Northvale Steel was in only 12 documents, more than its usual 4 a day.", "direction"),
    (VOLUME, "Northvale Steel was in over 12 documents.", "hedge"),
    (VOLUME, "Northvale Steel was in twice as many documents as usual.", "ratio"),
    (VOLUME, "Northvale Steel was not in 12 documents.", "word"),
    (VOLUME, "Northvale Steel was in 12 documents in a row that named Halden.", "word"),
    (VOLUME, "Halden Foods was in 12 documents.", "name"),
    (VOLUME, "Northvale Steel was in 12 documents, said its chairman.", "word"),
    (VOLUME, "Northvale Steel will be in 12 documents.", "word"),
    (VOLUME, "Northvale Steel was in 12 documents on the", "incomplete"),
    (VOLUME, "Northvale Steel was in 12 “bad” documents.", "quotation"),
    (VOLUME, "Northvale Steel was in 12 days.", "role"),
    (VOLUME, "Northvale Steel had 12 documents about Northvale Steel.", "repetition"),
    (
        NEGATIVES,
        "Of the 12 documents about Northvale Steel, 9 were negative: 9, against 25% in the past.",
        "role",
    ),
    (VOLUME, "Northvale Steel was in 12th documents.", "word"),
    (MOOD, "The score of Northvale Steel fell to +0.67.", "number"),
    (MOOD, "The score of Northvale Steel rose to −0.67.", "direction"),
    (MOOD, "The score of Northvale Steel fell to +0.05, from −0.67 in the past.", "role"),
    (MOOD, "The score of Northvale Steel fell to −0.66.", "number"),
    (MOOD, "The mood about Northvale Steel was positive: its score fell to −0.67.", "mood"),
    (MOOD, "The score of Northvale Steel was unchanged at −0.67.", "direction"),
    (NEGATIVES, "Of the 12 documents about Northvale Steel, 12 were negative.", "role"),
    (NEGATIVES, "9 documents about Northvale Steel were positive.", "role"),
    (NEGATIVES, "25% of the documents about Northvale Steel were negative.", "role"),
    (NEGATIVES, "Only 9 of the 12 documents about Northvale Steel were negative.", "direction"),
)


@pytest.mark.parametrize(("point", "sentence"), TRUE, ids=[sentence for _, sentence in TRUE])
def test_true_sentence_stands(point: Point, sentence: str) -> None:
    assert find_fault(sentence, point) is None


@pytest.mark.parametrize(("point", "sentence", "fault"), FALSE, ids=[sentence for _, sentence, _ in FALSE])
def test_false_sentence_is_dropped(point: Point, sentence: str, fault: str) -> None:
    assert find_fault(sentence, point) == fault


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(0, 5000))
def test_any_other_count_is_dropped(number: int, count: int) -> None:
    assume(number != count)
    point = Point(name="volume", variables={}, quantities=(Quantity(count, Unit.DOCUMENTS),))

    assert find_fault(f"There were {count} documents.", point) is None
    assert find_fault(f"There were {count:,} documents.", point) is None
    assert find_fault(f"There were {number} documents.", point) == "number"


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 100))
def test_share_stands_only_where_it_is_rounded_rightly(thousandths: int, percent: int) -> None:
    share = thousandths / 1000
    point = Point(name="negatives", variables={}, quantities=(Quantity(share, Unit.SHARE),))
    is_rounding = abs(share * 100 - percent) <= 0.5 + 1e-9

    fault = find_fault(f"The share was {percent}%.", point)

    assert fault == (None if is_rounding else "number")


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(-1, 1))
def test_score_with_another_sign_or_value_is_dropped(value: float, other: float) -> None:
    assume(abs(round(value, 2) - round(other, 2)) > 0.015 and abs(other) >= 0.01 and abs(value) >= 0.01)
    point = Point(name="mood", variables={}, quantities=(Quantity(value, Unit.SCORE),))

    assert find_fault(f"The score was {value:+.2f}.", point) is None
    assert find_fault(f"The score was {other:+.2f}.", point) == "number"


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_text_makes_the_check_fail(text: str) -> None:
    find_fault(text, VOLUME)
    find_fault(f"{text}.", NEGATIVES)
