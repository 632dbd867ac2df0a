"""One spelling of headlines and posts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.text.plain import MAX_POST_CHARACTERS, normalise


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("$BYND - cut at JPMorgan https://t.co/bd0xbFGjkT", "BYND - cut at JPMorgan"),
        ("rise of $5 and $5.2bn", "rise of $5 and $5.2bn"),
        ("$BRK.B up, A&amp;B &amp;lt; C", "BRK.B up, A&B < C"),
        ("AT_USER says #oil falls… URL", "says oil falls"),
        ("mail a@b.com about C# and F#", "mail a@b.com about C# and F#"),
        ("  \u00a0two\n\nlines  ", "two lines"),
        ("Q3 loss widens to Rs 10.4 crore", "Q3 loss widens to Rs 10.4 crore"),
    ],
)
def test_only_what_says_nothing_goes(text: str, plain: str) -> None:
    assert normalise(text) == plain


@given(st.text(max_size=200))
def test_what_is_left_is_one_line_without_links(text: str) -> None:
    plain = normalise(f"{text} https://example.com/{'x' * 5} www.example.com")
    assert "example.com" not in plain
    assert plain == " ".join(plain.split())


def test_a_text_of_any_length_is_cut_before_it_is_read() -> None:
    assert len(normalise("word " * 100_000)) <= MAX_POST_CHARACTERS
