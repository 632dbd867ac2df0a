"""Ingest: resources have the contents of the files, whatever their format, order and spelling."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.intake.files import read_chunks
from kinds.recommendation.catalogue import event_batches
from kinds.recommendation.catalogue.inputs import IntakeOptions
from kinds.recommendation.catalogue.interactions import block_of
from tests.unit.kinds.recommendation.catalogue.files import (
    GOODS,
    NOW,
    ingest_files,
    ingest_texts,
    write,
    write_rows,
)

FORMATS = [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet"]

EVENTS = [
    {"user": "ann", "item": "tent", "event": "view", "timestamp": "2025-06-01T09:00:00Z"},
    {"user": "ann", "item": "tent", "event": "purchase", "timestamp": "2025-06-02T09:00:00Z"},
    {"user": "bob", "item": "mug", "event": "cart", "timestamp": "2025-06-03T09:00:00Z"},
    {"user": "bob", "item": "mug", "event": "peek", "timestamp": "2025-06-01T09:00:00Z"},
]
ITEMS: list[dict[str, object]] = [
    {
        "id": "tent",
        "title": "Tent",
        "description": "For two.",
        "category": "tents",
        "price": 99.5,
        "brand": "Ask",
    },
    {
        "id": "mug",
        "title": "Mug, small",
        "description": 'Says "hot".',
        "category": "cups",
        "price": 8.0,
        "brand": "Co",
    },
]


def seconds(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_resources(tmp_path: Path, suffix: str) -> None:
    expected = ingest_files(
        write_rows(tmp_path, "a.csv", ITEMS), write_rows(tmp_path, "b.csv", EVENTS)
    ).inputs
    goods, log = write_rows(tmp_path, f"goods{suffix}", ITEMS), write_rows(tmp_path, f"log{suffix}", EVENTS)
    assert ingest_files(goods, log).inputs == expected


def test_events_add_up_to_one_entry_an_item(tmp_path: Path) -> None:
    result = ingest_files(write_rows(tmp_path, "a.csv", ITEMS), write_rows(tmp_path, "b.csv", EVENTS))
    assert result.entries == [
        ("ann", "tent", 6.0, seconds(2025, 6, 2, 9), True),
        ("bob", "mug", 4.0, seconds(2025, 6, 3, 9), False),
    ]
    assert result.counts == {"unknown_kind": 1}
    assert (result.inputs.num_users, result.inputs.num_items, result.inputs.num_interactions) == (2, 2, 2)


def test_item_has_all_that_its_row_says(tmp_path: Path) -> None:
    goods = (
        "product_id,Name,description,genres,price,stock,available_until,Main Colour,sizes,washable,pages\n"
        "7,Mug,Holds tea.,cups|gifts,€8.50,0,2025-08-01,sage green,S|M,True,012\n"
    )
    item = ingest_texts(tmp_path, goods=goods, log="user,item\nann,7\n").items["7"]
    assert (item.title, item.text, item.category) == ("Mug", "Holds tea.", "cups")
    assert (item.price, item.currency, item.available) == (8.5, "EUR", False)
    assert item.available_until == datetime(2025, 8, 1, tzinfo=UTC)
    assert item.attributes == {
        "categories": ("cups", "gifts"),
        "main_colour": "sage green",
        "sizes": ("S", "M"),
        "washable": True,
        "pages": "012",
    }


def test_attribute_never_hides_a_field(tmp_path: Path) -> None:
    goods = "id,title,price,sale_price\na,Mug,10,8\n"
    result = ingest_texts(
        tmp_path, goods=goods, log="user,item\nann,a\n", catalogue_columns={"price": "sale_price"}
    )
    assert result.items["a"].part(("price", "other_price")) == {"price": 8.0, "other_price": "10"}


def test_columns_are_those_of_the_mapping(tmp_path: Path) -> None:
    log = "who,what,stars\nann,tent,4\n"
    columns = {"user": "who", "item": "what", "weight": "stars"}
    assert ingest_texts(tmp_path, log=log, interaction_columns=columns).entries == [
        ("ann", "tent", 4.0, 0, False)
    ]


@pytest.mark.parametrize(
    "written",
    [
        "2025-06-01T09:00:00Z",
        "2025-06-01 09:00:00",
        "2025-06-01T11:00:00+02:00",
        "1748768400",
        "1748768400000",
    ],
)
def test_every_way_to_write_a_moment_is_read(tmp_path: Path, written: str) -> None:
    alone = ingest_texts(tmp_path, log=f"user,item,time\nann,tent,{written}\n")
    among_others = ingest_texts(tmp_path, log=f"user,item,time\nann,tent,{written}\nbob,mug,20250101\n")
    assert alone.entries[0] == among_others.entries[0] == ("ann", "tent", 1.0, seconds(2025, 6, 1, 9), False)


USERS = st.sampled_from(["ann", "bob", "cy", "dee"])
CELLS = st.tuples(
    USERS | st.just(""),
    st.sampled_from(["tent", "mug", "rope", "gone"]),
    st.sampled_from(["view", "purchase", "peek", ""]),
    st.sampled_from(["", "1", "0.1", "0.7", "nan", "-1", "3"]),
    st.sampled_from(
        ["2025-06-01", "2025-06-02T09:00:00Z", "1748768400", "soon", "1970-01-01", "2199-01-01", ""]
    ),
)


@settings(deadline=None, max_examples=40)  # each writes files
@given(
    st.lists(CELLS, min_size=1, max_size=30).map(lambda rows: [("ann", "tent", "", "", ""), *rows]),
    st.randoms(),
)
def test_lines_in_another_order_give_the_same_inputs(rows: list[tuple[str, ...]], random: Random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    with tempfile.TemporaryDirectory() as name:
        results = [
            ingest_texts(
                Path(name),
                log="user,item,event,weight,time\n" + "".join(",".join(row) + "\n" for row in order),
                max_events=3,
                users_per_block=1,
            )
            for order in (rows, shuffled)
        ]
    assert results[0].inputs == results[1].inputs


@settings(deadline=None, max_examples=40)  # each writes files
@given(
    st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp", "Cf"]),
            min_size=1,
            max_size=8,
        ),
        min_size=1,
    )
)
def test_users_of_any_script_are_in_their_block_once(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        rows = [{"user": user, "item": "tent"} for user in names]
        log = write_rows(Path(name), "log.jsonl", rows)
        result = ingest_files(write(Path(name), "goods.csv", GOODS), log, users_per_block=2)
    num_blocks = len(result.inputs.blocks)
    assert sorted(user for block in result.blocks for user in block.user_ids) == sorted(set(names))
    for number, block in enumerate(result.blocks):
        assert list(block.user_ids) == sorted(block.user_ids)
        assert {block_of(user, num_blocks) for user in block.user_ids} <= {number}


def test_block_of_other_users_keeps_its_digest(tmp_path: Path) -> None:
    rows = [{"user": f"u{number}", "item": ("tent", "mug")[number % 2]} for number in range(40)]
    before = ingest_files(
        write(tmp_path, "goods.csv", GOODS), write_rows(tmp_path, "a.csv", rows), users_per_block=10
    )
    more = [*rows, {"user": "u7", "item": "rope"}]
    goods = GOODS.replace("rope", "another,Another,1\nrope")
    after = ingest_files(
        write(tmp_path, "more.csv", goods), write_rows(tmp_path, "b.csv", more), users_per_block=10
    )
    changed = [
        b
        for b, (old, new) in enumerate(zip(before.inputs.blocks, after.inputs.blocks, strict=True))
        if old != new
    ]
    assert changed == [block_of("u7", 4)]


@pytest.mark.parametrize("given_blocks", [None, 1, 2, 64, 512])
def test_number_of_blocks_changes_no_entry(tmp_path: Path, given_blocks: int | None) -> None:
    rows = [{"user": f"u{number % 30}", "item": "tent", "weight": number + 1} for number in range(90)]
    log = write_rows(tmp_path, "log.csv", rows)
    result = ingest_files(write(tmp_path, "goods.csv", GOODS), log, num_blocks=given_blocks)
    assert len(result.inputs.blocks) == (given_blocks or 1)
    weights = {user: weight for user, _, weight, _, _ in result.entries}
    assert weights == {f"u{user}": 3 * (user + 1) + 90 for user in range(30)}


def test_blocks_stay_until_users_have_doubled() -> None:
    options = IntakeOptions(users_per_block=1_000, num_blocks=4)
    assert [options.blocks_for(users) for users in (10, 4_000, 8_000, 8_001, 20_000)] == [4, 4, 4, 8, 16]


def test_kind_of_weight_zero_is_left_out(tmp_path: Path) -> None:
    log = "user,item,event\nann,tent,view\nann,mug,return\n"
    result = ingest_texts(tmp_path, log=log, event_weights={"view": 1, "return": 0})
    assert [entry[:3] for entry in result.entries] == [("ann", "tent", 1.0)]
    assert result.counts == {"kind_ignored": 1}


def test_unavailable_and_unseen_items_are_kept_and_counted(tmp_path: Path) -> None:
    goods = f"id,title,available,available_until\na,A,no,\nb,B,yes,{NOW.isoformat()}\nc,C,yes,\n"
    inputs = ingest_texts(tmp_path, goods=goods, log="user,item\nann,c\n").inputs
    assert inputs.num_items == 3
    assert inputs.counts == {"item_unavailable": 2, "item_without_interactions": 2}


def test_log_in_several_pieces_is_one_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"user": f"u{number}", "item": "tent" if number % 7 else "gone"} for number in range(500)]
    log, goods = write_rows(tmp_path, "log.csv", rows), write(tmp_path, "goods.csv", GOODS)
    whole = ingest_files(goods, log)
    monkeypatch.setattr(event_batches, "read_chunks", partial(read_chunks, chunk_bytes=64))
    in_pieces = ingest_files(goods, log)
    assert in_pieces.inputs == whole.inputs
    assert in_pieces.codes == whole.codes == [(line, "unknown_item") for line in range(2, 502, 7)]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(["tent", "mug"]), st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(1, 4),
)
def test_robot_is_cut_alike_in_one_piece_and_in_many(events: list[tuple[str, int]], max_events: int) -> None:
    rows = [{"user": "robot", "item": item, "time": 1_700_000_000 + second} for item, second in events]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        goods, log = write(Path(name), "goods.csv", GOODS), write_rows(Path(name), "log.csv", rows)
        whole = ingest_files(goods, log, max_events=max_events)
        patch.setattr(event_batches, "read_chunks", partial(read_chunks, chunk_bytes=150))
        assert ingest_files(goods, log, max_events=max_events).inputs == whole.inputs
    different = len(set(events))
    assert sum(weight for _, _, weight, _, _ in whole.entries) == min(different, max_events)
    is_cut = different > max_events
    assert whole.counts.get("event_cut", 0) == (len(events) - max_events if is_cut else 0)
    assert whole.counts.get("duplicate", 0) == (0 if is_cut else len(events) - different)
