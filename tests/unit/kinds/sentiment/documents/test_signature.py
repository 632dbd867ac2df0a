"""Signatures: what is the same in other dress is the same, what is another day's is not."""

from __future__ import annotations

import pytest

from kinds.sentiment.documents.signature import signature, similarity
from kinds.sentiment.series.mention import NUM_PERMUTATIONS
from kinds.sentiment.series.novelty import MIN_MATCHES

HEADLINE = "Acme Steel to cut 400 jobs at its plant in Ohio after weak demand from car makers"


def is_near(first: str, second: str) -> bool:
    """Whether the series would take the second for a follow-up."""
    return similarity(signature(first), signature(second)) >= MIN_MATCHES / NUM_PERMUTATIONS


@pytest.mark.parametrize(
    "other",
    [
        HEADLINE.upper(),
        f"RT @wire: {HEADLINE}",
        f"rt AT_USER rt AT_USER {HEADLINE} URL",
        f"{HEADLINE} https://t.co/a1B2 via @wire",
        f"{HEADLINE}!!!",
        HEADLINE.replace(" to ", "  to\n"),
    ],
)
def test_repost_equals_the_original(other: str) -> None:
    assert signature(other) == signature(HEADLINE)


@pytest.mark.parametrize(
    "other",
    [
        f"{HEADLINE} - Reuters",
        HEADLINE.replace("weak", "soft"),
        HEADLINE.removesuffix(" car makers"),
        f"UPDATE: {HEADLINE}",
    ],
)
def test_reworded_headline_is_near(other: str) -> None:
    assert is_near(HEADLINE, other)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Acme Q2 net profit up 20% at Rs 110 crore", "Acme Q2 net profit up 35% at Rs 140 crore"),
        ("July 10, 2014: Report on the rupee", "June 25, 2014: Report on the rupee"),
        (HEADLINE, "Bolt Motors raises its forecast as orders for vans grow"),
        ("Acme", "Bolt"),
    ],
)
def test_other_news_is_not_near(first: str, second: str) -> None:
    assert not is_near(first, second)


def test_signature_has_the_size_that_the_series_reads() -> None:
    for text in ("", "🚀", "a", HEADLINE * 1000):
        assert len(signature(text)) == 4 * NUM_PERMUTATIONS


def test_signature_stays_the_same_from_release_to_release() -> None:
    # Signatures are kept in Postgres and compared with new ones.
    assert signature("Acme beats estimates")[:16].hex() == "9b252c12f604fe0143166502b5acad08"
