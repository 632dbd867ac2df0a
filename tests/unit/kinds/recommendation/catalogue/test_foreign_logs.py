"""Logs as shops export them: ids changed by a spreadsheet, returns, and dates in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from jobs.rejection import FileRejectedError, InputDroppedError
from kinds.recommendation.catalogue.ingest import ingest
from kinds.recommendation.catalogue.inputs import Inputs, IntakeOptions
from tests.unit.kinds.recommendation.catalogue.files import NOW, ingest_files, ingest_texts, write

INVOICES = Path(__file__).parents[4] / "data" / "logs" / "invoices.csv"
GOODS = "StockCode,Title\n85123A,Heart\n71053,Lantern\n22752,Set of 7\n"


def noted(folder: Path, goods: str, log: str, **options: object) -> tuple[Inputs, list[str]]:
    """Ingest the files with the usual limit for dropped rows; return the notes too."""
    notes: list[str] = []
    inputs = ingest(
        write(folder, "goods.csv", goods),
        write(folder, "log.csv", log),
        options=IntakeOptions.model_validate(options),
        write=lambda _, media_type: media_type,
        on_rejected=lambda _: None,
        now=NOW,
        on_note=notes.append,
    )
    return inputs, notes


def test_invoices_of_a_shop_are_read_as_they_are(tmp_path: Path) -> None:
    result = ingest_files(write(tmp_path, "goods.csv", GOODS), INVOICES)
    # 13/1/2010 says that the day comes first in the whole column.
    assert result.entries == [
        ("13047", "22752", 2.0, 1263371160, False),
        ("17850", "71053", 6.0, 1263284880, False),
    ]
    assert result.counts == {"returned": 1, "user_missing": 1}
    assert result.codes == [(6, "user_missing")]


@pytest.mark.parametrize(
    ("rows", "entries"),
    [
        (["ann,tent,2", "ann,tent,-2"], {}),
        (["ann,tent,2", "ann,tent,-1"], {("ann", "tent"): 1.0}),
        (["ann,tent,-1", "ann,mug,1"], {("ann", "mug"): 1.0}),
        (["ann,tent,-3", "ann,tent,2", "ann,tent,1", "bob,mug,1"], {("bob", "mug"): 1.0}),
    ],
)
@pytest.mark.parametrize("column", ["Quantity", "qty"])
def test_quantity_below_zero_is_a_return_and_no_interest(
    tmp_path: Path, column: str, rows: list[str], entries: Mapping[tuple[str, str], float]
) -> None:
    result = ingest_texts(tmp_path, log="\n".join([f"user,item,{column}", "zoe,rope,1", *rows]) + "\n")
    assert {entry[:2]: entry[2] for entry in result.entries if entry[0] != "zoe"} == entries
    assert result.counts == {"returned": 1}
    assert result.inputs.num_users == 1 + len({user for user, _ in entries})
    assert [user for block in result.blocks for user in block.user_ids] == sorted(
        {entry[0] for entry in result.entries}
    )


def test_quantity_that_is_mapped_as_a_weight_is_still_a_quantity(tmp_path: Path) -> None:
    log = "user,item,Quantity\nann,tent,2\nann,mug,-1\n"
    result = ingest_texts(tmp_path, log=log, interaction_columns={"weight": "Quantity"})
    assert [entry[:3] for entry in result.entries] == [("ann", "tent", 2.0)]


@pytest.mark.parametrize("kind", ["return", "Refund", "cancelled"])
def test_event_of_a_return_takes_the_purchase_back(tmp_path: Path, kind: str) -> None:
    rows = ("purchase,1700000000", f"{kind},1700000100")
    log = "user,item,event,time\nann,mug,view,1700000000\n" + "".join(f"ann,tent,{row}\n" for row in rows)
    result = ingest_texts(tmp_path, log=log)
    assert [entry[:2] for entry in result.entries] == [("ann", "mug")]
    assert result.counts == {"returned": 1}


def test_user_that_went_through_a_column_of_decimals_is_one_user(tmp_path: Path) -> None:
    log = "user,item\n17850,tent\n17850.0,mug\n17850.00,rope\nv1.0,tent\n1.5,tent\n"
    result = ingest_texts(tmp_path, log=log)
    assert sorted({entry[0] for entry in result.entries}) == ["1.5", "17850", "v1.0"]


CODES = "id,title\n00123,A\n00456,B\n00789,C\nAB 1,D\nX,E\nx,F\n"


def test_half_a_log_that_names_ids_without_zeros_is_a_failure_that_says_so(tmp_path: Path) -> None:
    log = "user,item\nann,00123\nbob,00456\nann,456\nbob,789.0\n"
    with pytest.raises(InputDroppedError) as error:
        noted(tmp_path, CODES, log)
    message = str(error.value)
    assert "2 of 4 records (50%)" in message
    assert "unknown_item: 2" in message
    assert "'456' in the log, '00456' in the catalogue" in message
    assert "--match-ids loose" in message
    inputs, _ = noted(tmp_path, CODES, log, max_dropped_share=0.5)
    assert inputs.counts["unknown_item"] == 2


@pytest.mark.parametrize(
    ("spelled", "meant", "difference"),
    [
        ("123", "00123", "leading zeros"),
        ("00456.0", "00456", "at the end"),
        ("ab 1", "AB 1", "case"),
        ("AB1", "AB 1", "spaces"),
        ("ab1", "AB 1", "several"),
    ],
)
def test_near_miss_is_named_with_both_sides_and_matched_if_wanted(
    tmp_path: Path, spelled: str, meant: str, difference: str
) -> None:
    log = "user,item\n" + "ann,00789\n" * 30 + f"bob,{spelled}\n"
    _, notes = noted(tmp_path, CODES, log)
    (note,) = notes
    assert difference in note
    assert repr(spelled) in note
    assert repr(meant) in note
    result = ingest_texts(tmp_path, goods=CODES, log=log, match_ids="loose")
    assert ("bob", meant) in [entry[:2] for entry in result.entries]


def test_id_that_is_near_two_items_matches_none(tmp_path: Path) -> None:
    result = ingest_texts(
        tmp_path, goods=CODES + "01,G\n1,H\n", log="user,item\nann,X\nbob,001\n", match_ids="loose"
    )
    assert [entry[:2] for entry in result.entries] == [("ann", "X")]
    assert result.counts == {"unknown_item": 1}


def test_files_without_a_common_id_are_told_how_they_nearly_have(tmp_path: Path) -> None:
    with pytest.raises(FileRejectedError, match=r"leading zeros .*--match-ids loose") as error:
        noted(tmp_path, CODES, "user,item\nann,123\nbob,456\n")
    assert error.value.code == "no_common_ids"


def test_half_a_catalogue_that_is_refused_is_a_failure(tmp_path: Path) -> None:
    goods = "id,title,price\n1,A,9\n2,B,call\n3,C,call\n4,D,1\n"
    with pytest.raises(InputDroppedError, match=r"goods.csv: 2 of 4 .*price_invalid"):
        noted(tmp_path, goods, "user,item\nann,1\n")


def test_catalogue_whose_ids_are_shared_is_a_failure(tmp_path: Path) -> None:
    goods = "id,title\n1,A\n1,B\n1,C\n2,D\n"
    with pytest.raises(InputDroppedError, match=r"2 of 4 .*item_superseded"):
        noted(tmp_path, goods, "user,item\nann,1\n")


def test_reason_of_a_log_that_is_no_use_is_the_most_frequent_one(tmp_path: Path) -> None:
    log = "user,item,date\n,tent,2/3/2024\nann,tent,3/4/2024\nbob,mug,5/6/2024\n"
    with pytest.raises(
        FileRejectedError, match=r"line 3 is ambiguous: .* shows which number is the month.*--date-format"
    ):
        ingest_texts(tmp_path, log=log)
    for order, month in (("day-first", 4), ("month-first", 3)):
        result = ingest_texts(tmp_path, log=log, date_order=order)
        assert len(result.entries) == 2
        assert result.entries[0][3] == {3: 1709510400, 4: 1712102400}[month]


def test_dates_that_an_item_is_available_are_read_in_the_order_of_their_column(tmp_path: Path) -> None:
    goods = "id,title,available_until\n1,A,2/1/2027\n2,B,25/1/2027\n"
    items = ingest_texts(tmp_path, goods=goods, log="user,item\nann,1\n").items
    assert [f"{items[name].available_until:%Y-%m-%d}" for name in "12"] == ["2027-01-02", "2027-01-25"]


def test_columns_of_a_log_that_are_not_read_are_named_once(tmp_path: Path) -> None:
    log = "user,item,Invoice number,when\n" + "ann,00123,1,2024-05-01\n" * 3
    _, notes = noted(tmp_path, CODES, log)
    (note,) = notes
    assert "'Invoice number'" in note
    assert "'when'" in note
    assert "no column is read as time" in note


def test_item_whose_text_is_a_bomb_fails_no_other(tmp_path: Path) -> None:
    bomb = "&#" + "9" * 5_000
    goods = f"id,title,text\n1,A,fine\n2,B {bomb},{bomb}\n3,C,fine\n"
    result = ingest_texts(tmp_path, goods=goods, log="user,item\nann,1\n")
    assert sorted(result.items) == ["1", "2", "3"]
