"""The manifest and the text index have one serialisation, which is read back; other bytes are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from kinds.recommendation.ranking.lists import RankedItem, Reason, ReasonKind, UserList
from kinds.recommendation.ranking.settings import RankingSettings, Rules
from kinds.recommendation.release import (
    ReleasedBlock,
    ReleaseMalformedError,
    ReleaseManifest,
    TextEntry,
    manifest_bytes,
    read_manifest,
    read_text_index,
    shown_items,
    text_index_bytes,
)
from kinds.recommendation.texts.text import TextPolicy

AT = datetime(2026, 3, 1, tzinfo=UTC)


def _manifest() -> ReleaseManifest:
    return ReleaseManifest(
        created_at=AT,
        as_of=AT,
        inputs_sha256="a" * 64,
        catalogue_sha256="b" * 64,
        model_sha256="c" * 64,
        fitted_inputs_sha256="0" * 64,
        ranking=RankingSettings(),
        rules=Rules(blocked_items=frozenset(map(str, range(20)))),
        text_policy=TextPolicy(),
        blocks=(
            ReleasedBlock(interactions_sha256="d" * 64, basis="e" * 64, lists_sha256="f" * 64, num_users=2),
        ),
    )


def test_manifest_is_read_back_as_it_was_written() -> None:
    assert read_manifest(manifest_bytes(_manifest())) == _manifest()


@pytest.mark.parametrize("seed", ["1", "2"])
def test_digest_of_rules_is_the_same_in_every_process(seed: str) -> None:
    code = (
        "from kinds.recommendation.ranking.settings import Rules\n"
        "print(Rules(blocked_items=frozenset(map(str, range(20)))).model_dump_json())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == _manifest().rules.model_dump_json()


def test_index_has_the_same_bytes_in_any_order_and_comes_back() -> None:
    hostile = 'item:"}\n../<script>' + "x" * 10_240
    index = {
        hostile: TextEntry(key="1" * 64, items=("17", "\u2028"), because='say "hi"'),
        "segment:tents": TextEntry(key="2" * 64, items=()),
    }
    body = text_index_bytes(index)
    assert body == text_index_bytes(dict(reversed(index.items())))
    assert read_text_index(body) == index
    assert read_text_index(text_index_bytes({})) == {}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"recommender": 1}', b"\xff"])
def test_other_bytes_are_refused_by_name(body: bytes) -> None:
    with pytest.raises(ReleaseMalformedError):
        read_manifest(body)
    with pytest.raises(ReleaseMalformedError):
        read_text_index(body)


def test_reserve_moves_up_when_an_item_leaves() -> None:
    reason = Reason(kind=ReasonKind.POPULAR)
    items = [RankedItem(item_id=name, score=1.0, reason=reason) for name in "abcd"]
    one = UserList(user_id="ann", segment="s", items=items)
    rules = Rules(list_length=2, reserve=2)
    assert [item.item_id for item in shown_items(one, rules)] == ["a", "b"]
    assert [item.item_id for item in shown_items(one, rules, {"a", "c"})] == ["b", "d"]
    assert [item.item_id for item in shown_items(one, rules, {"a", "b", "c"})] == ["d"]
