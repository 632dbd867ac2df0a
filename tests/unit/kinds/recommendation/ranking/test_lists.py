"""Lists as bytes: they come back unchanged, whatever the ids look like."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from kinds.recommendation.ranking.lists import (
    ListsMalformedError,
    RankedItem,
    Reason,
    ReasonKind,
    UserList,
    lists_bytes,
    read_lists_bytes,
)

_texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
_reasons = st.builds(
    Reason,
    kind=st.sampled_from(ReasonKind),
    because=st.none() | _texts,
    attribute=st.none() | _texts,
    share=st.floats(0, 1),
)
_items = st.builds(
    RankedItem, item_id=_texts, score=st.floats(allow_nan=False, allow_infinity=False), reason=_reasons
)
_lists = st.lists(
    st.builds(UserList, user_id=_texts, segment=_texts, items=st.lists(_items, max_size=5).map(tuple)),
    max_size=6,
)


@settings(deadline=None, max_examples=40)
@given(_lists)
def test_lists_come_back_as_they_were_given(lists: list[UserList]) -> None:
    assert read_lists_bytes(lists_bytes(lists)) == lists


@settings(deadline=None, max_examples=40)
@given(_lists)
def test_the_same_lists_have_the_same_digest(lists: list[UserList]) -> None:
    body, again = lists_bytes(lists), lists_bytes(read_lists_bytes(lists_bytes(lists)))
    assert hashlib.sha256(body).digest() == hashlib.sha256(again).digest()


def test_another_score_is_another_digest() -> None:
    def body(score: float) -> bytes:
        reason = Reason(kind=ReasonKind.POPULAR)
        return lists_bytes(
            [
                UserList(
                    user_id="ann", segment="s", items=[RankedItem(item_id="1", score=score, reason=reason)]
                )
            ]
        )

    assert body(0.5) != body(0.5000001)


def test_an_id_of_ten_kilobytes_survives() -> None:
    one = UserList(user_id="u" * 10_240, segment="../<b>\n", items=())
    assert read_lists_bytes(lists_bytes([one])) == [one]


def test_any_reader_of_parquet_can_read_the_lists() -> None:
    reason = Reason(kind=ReasonKind.CONTENT, because="17", attribute="brand", share=0.5)
    lists = [
        UserList(user_id="ann", segment="tents", items=[RankedItem(item_id="1", score=2.0, reason=reason)])
    ]
    rows = parquet.read_table(pa.BufferReader(lists_bytes(lists))).to_pylist()
    item = {"item": "1", "score": 2.0, "kind": "content", "because": "17", "attribute": "brand", "share": 0.5}
    assert rows == [{"user": "ann", "segment": "tents", "items": [item]}]


def _other_table() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"user": ["ann"]}), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("body", [b"", b"PAR1 nothing PAR1", _other_table(), lists_bytes([])[:-20]])
def test_other_bytes_are_refused_by_name(body: bytes) -> None:
    with pytest.raises(ListsMalformedError):
        read_lists_bytes(body)
