"""Dates: each is understood whole or refused; never another hour, and never now."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.documents.document import Document
from jobs.documents.reading import read_documents, read_feed
from jobs.instants import DateOrder, parse_instant, possible_orders, unreadable
from jobs.rejection import Rejected
from kinds.recommendation.catalogue.columns import AMBIGUOUS, INVALID, seconds_of
from tests.unit.jobs.documents.files import write

NOW = datetime(2026, 3, 2, tzinfo=UTC)

READ = {
    "Sun, 15 Dec 2024 12:15 AM": "2024-12-15T00:15:00",
    "Sun, 15 Dec 2024 12:15 PM": "2024-12-15T12:15:00",
    "20241215001500": "2024-12-15T00:15:00",
    "202412150015": "2024-12-15T00:15:00",
    "Sun, 15 Dec 2024 1:05:09 p.m. EST": "2024-12-15T18:05:09",
    "2024-12-15 12:15 AM": "2024-12-15T00:15:00",
    "Dec 15, 2024 12:15 AM ET": "2024-12-15T05:15:00",
    "Jul 15, 2024 12:15 AM ET": "2024-07-15T04:15:00",
    "7:51 PM ET Fri, 17 July 2020": "2020-07-17T23:51:00",
    "Sunday, December 15th, 2024 at 12:15 a.m. PST": "2024-12-15T08:15:00",
    "Sun, 15 Dec 2024 00:15:00 PDT": "2024-12-15T07:15:00",
    "Sun, 15 Dec 2024 00:15:00 CET": "2024-12-14T23:15:00",
    "Sun, 15 Dec 2024 00:15:00 +0530 (IST)": "2024-12-14T18:45:00",
    "Sunday, 15-Dec-24 00:15:00 GMT": "2024-12-15T00:15:00",
    "Sun,15 Dec 2024 0:15 UT": "2024-12-15T00:15:00",
    "Sun Dec 15 00:15:00 2024": "2024-12-15T00:15:00",
    "Sun Dec 15 00:15:00 +0100 2024": "2024-12-14T23:15:00",
    "Sun Dec 15 2024 00:15:00 GMT+0100 (Central European Standard Time)": "2024-12-14T23:15:00",
    "2024-12-15T00:15:00.123456789Z": "2024-12-15T00:15:00.123456",
    "2024-12-15T00:15:00+0530": "2024-12-14T18:45:00",
    "2024-12-15T00:15:00\u221205:00": "2024-12-15T05:15:00",
    "2024-12-15-05:00": "2024-12-15T05:00:00",  # a date of XML Schema with its zone, and no hour
    "2024-12-15T24:00:00Z": "2024-12-16T00:00:00",
    "2016-12-31T23:59:60Z": "2017-01-01T00:00:00",
    "2024-W50-7": "2024-12-15T00:00:00",
    "2024-350": "2024-12-15T00:00:00",
    "20241215T001500Z": "2024-12-15T00:15:00",
    "29 Feb 2024": "2024-02-29T00:00:00",
    "1734221700": "2024-12-15T00:15:00",
    "1734221700000": "2024-12-15T00:15:00",
}

REFUSED = (
    "Sun, 15 Dec 2024 13:15 PM",
    "Sun, 15 Dec 2024 0:15 PM",
    "Sun, 15 Dec 2024 25:00 GMT",
    "Sun, 15 Dec 2024 00:15 IST",
    "Sun, 15 Dec 2024 00:15 BST",
    "Sun, 15 Dec 2024 00:15 XYZ",
    "Sun, 15 Dec 2024 00:15 A",
    "Sun, 15 Dec 2024 00:15 GMT and more",
    "about Sun, 15 Dec 2024 00:15 GMT",
    "Nov 3, 2024 1:30 AM ET",
    "Mar 10, 2024 2:30 AM ET",
    "So, 15 Dez 2024 00:15 GMT",
    "15 d\u00e9cembre 2024",
    "29 Feb 2023",
    "31 Apr 2024",
    "2024-12-15x05:00",
    "2024-12-15T24:00:01",
    "2024-12-15T00:15:60",
    "2024-12-15T00:15:00+25:00",
    "2024-366x",
    "2023-366",
    "12/1/2010 8:26",
    "15.12.2024",
    "2024-12",
    "\u0662\u0660\u0662\u0664-12-15",
    "now",
    "today",
    "yesterday",
    "",
    "NaT",
)


@pytest.mark.parametrize(("text", "instant"), READ.items())
def test_date_is_read_as_the_instant_it_names(text: str, instant: str) -> None:
    expected = datetime.fromisoformat(instant).replace(tzinfo=UTC)
    assert parse_instant(text) == expected
    # The columns of a log go through the same reader.
    assert seconds_of(pa.array([text, "x"]), 2).tolist() == [int(expected.timestamp()), INVALID]


@pytest.mark.parametrize("text", REFUSED)
def test_date_that_is_not_understood_whole_is_refused(text: str) -> None:
    assert parse_instant(text) is None
    if text:
        assert seconds_of(pa.array([text, "x"]), 2).tolist() in ([INVALID] * 2, [AMBIGUOUS, INVALID])


def test_zone_of_several_countries_is_named_in_the_refusal() -> None:
    reason, advice = unreadable("Sun, 15 Dec 2024 00:15 IST")
    assert "'IST'" in reason
    assert "offset" in advice
    assert "month" in unreadable("12/1/2010 8:26")[0]


@given(st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)))  # noqa: DTZ001 - hypothesis wants naive ones
def test_afternoon_and_morning_are_never_mixed_up(moment: datetime) -> None:
    moment = moment.replace(second=0, microsecond=0, tzinfo=UTC)
    for written in (
        "%a, %d %b %Y %I:%M %p",
        "%B %d, %Y, %I:%M %p UTC",
        "%Y-%m-%d %I:%M%p",
        "%I:%M %p, %d %B %Y",
    ):
        assert parse_instant(moment.strftime(written)) == moment


@given(st.text("0123456789/-: ", max_size=20))
def test_date_of_numbers_is_read_in_its_order_alone(text: str) -> None:
    orders = possible_orders(text)
    assert orders == {
        order for order in DateOrder if parse_instant(text, order) and parse_instant(text) is None
    }


def feed(*dates: str) -> bytes:
    items = "".join(
        f"<item><guid>{number}</guid><title>Acme {number}</title><pubDate>{date}</pubDate></item>"
        for number, date in enumerate(dates)
    )
    return f"<rss version='2.0'><channel>{items}</channel></rss>".encode()


def test_feed_entry_keeps_the_hour_that_was_written() -> None:
    morning, refused, evening = read_feed(
        "feed",
        feed("Sun, 15 Dec 2024 12:15 AM", "Sun, 15 Dec 2024 12:15 IST", "15 Dec 2024 20:00 EST"),
        now=NOW,
    )
    assert isinstance(morning, Document)
    assert isinstance(evening, Document)
    assert morning.published_at == datetime(2024, 12, 15, 0, 15, tzinfo=UTC)
    assert evening.published_at == datetime(2024, 12, 16, 1, 0, tzinfo=UTC)
    assert isinstance(refused, Rejected)
    assert (refused.code, refused.line) == ("document_date_invalid", 2)


@pytest.mark.parametrize(
    ("dates", "read"),
    [
        (["12/1/2010 8:26", "13/1/2010 8:26"], ["2010-01-12", "2010-01-13"]),
        (["12/1/2010 8:26", "12/13/2010 8:26"], ["2010-12-01", "2010-12-13"]),
        (["12/1/2010 8:26", "11/1/2010 8:26"], []),  # nothing tells
        (["12/1/2010", "13/1/2010", "1/13/2010"], []),  # they contradict
        (["24/12/15", "24/12/16"], []),  # of 2024, or of the 24th
    ],
)
def test_order_of_day_and_month_is_that_of_the_whole_column(
    tmp_path: Path, dates: list[str], read: list[str]
) -> None:
    rows = "".join(f"{number},Acme rises,{date}\n" for number, date in enumerate(dates))
    path = write(tmp_path, "news.csv", f"id,text,date\n{rows}")
    found = list(read_documents(path, now=NOW))
    assert [f"{made.published_at:%Y-%m-%d}" for made in found if isinstance(made, Document)] == read
    refused = [made for made in found if isinstance(made, Rejected)]
    assert len(refused) == len(dates) - len(read)
    assert all("month" in each.reason for each in refused)


def test_order_of_day_and_month_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, "news.csv", "id,text,date\n1,Acme rises,12/1/2010\n")
    for order, month in ((DateOrder.DAY_FIRST, 1), (DateOrder.MONTH_FIRST, 12)):
        (made,) = read_documents(path, now=NOW, date_order=order)
        assert isinstance(made, Document)
        assert made.published_at.month == month
