"""Watch list files: what is read, and how each fault is reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinds.sentiment.documents.watchlist import EntityKind, Watchlist
from kinds.sentiment.documents.watchlist_file import MAX_FILE_BYTES, WatchlistError, read_watchlist
from tests.unit.jobs.documents.files import write

STEEL = """
name = "steel"
[[company]]
name = "Acme Steel Inc."
tickers = ["$acme", "NYSE: ACM"]
aliases = ["Acme"]
description = "Makes steel in Ohio."
[[topic]]
id = "duties"
name = "Tariffs"
"""


def test_toml_and_json_of_one_content_have_one_digest(tmp_path: Path) -> None:
    fields = {
        "topic": [{"name": "Tariffs", "id": "duties"}],
        "company": [
            {
                "description": "Makes steel in Ohio.",
                "name": "Acme Steel Inc.",
                "aliases": ["Acme"],
                "tickers": ["ACME", "ACM"],
            }
        ],
        "name": "steel",
    }
    first = read_watchlist(write(tmp_path, "a.toml", STEEL))
    second = read_watchlist(write(tmp_path, "b.json", json.dumps(fields)))
    assert first.sha256 == second.sha256
    company, topic = first.watchlist.entities
    assert (company.id, company.tickers, topic.id) == ("acme-steel-inc", ("ACME", "ACM"), "duties")
    assert (company.kind, topic.kind) == (EntityKind.COMPANY, EntityKind.TOPIC)
    assert Watchlist.model_validate_json(first.body) == first.watchlist


def test_name_is_the_file_name_if_none_is_given(tmp_path: Path) -> None:
    content = '[[company]]\nname = "Acme"\n'
    assert read_watchlist(write(tmp_path, "My List.toml", content)).watchlist.name == "my-list"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the watch list is empty"),
        ('name = "steel"', "the watch list is empty"),
        ('name = "Big Steel"\n[[company]]\nname = "A"', "'big-steel'"),
        ('[[company]]\nname = "Acme"\nticker = ["A"]', "company 1 ('Acme'): 'ticker' is not a known key"),
        ('[[firm]]\nname = "Acme"', "firm is not a known key"),
        ('[company]\nname = "Acme"', "company is a single entry, not a list"),
        ('[[company]]\naliases = ["x"]', "company 1 has no name"),
        ('[[company]]\nname = "Acme"\naliases = "x"', "aliases is not a list of names"),
        ('[[company]]\nname = "Acme"\naliases = [1]', "aliases is not a list of names"),
        ('[[company]]\nname = "Acme"\nid = "A B"', "write 'acme'"),
        ('[[company]]\nname = "Acme"\ndescription = 5', "description is not text"),
        ('[[topic]]\nname = "oil"\ntickers = ["CL"]', "a topic cannot have tickers"),
        ('[[company]]\nname = "Acme"\n[[topic]]\nname = "ACME"', "has the same id 'acme' as 'Acme'"),
        ("[[company]\nname", "is not valid TOML"),
        ('{"company": [{"name": "a", "name": "b"}]}', "occurs twice"),
        ('{"company": [3]}', "company 1 is not a table"),
        ('[[company]]\nname = "AKIAABCDEFGHIJ234567"', "an AWS access key"),
    ],
)
def test_fault_is_named_with_its_file_and_entry(tmp_path: Path, content: str, says: str) -> None:
    path = write(tmp_path, "a.toml", content)
    with pytest.raises(WatchlistError) as caught:
        read_watchlist(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    content = '[[company]]\nnam = "Acme"\n[[topic]]\nname = "oil"\nx = 1\n'
    with pytest.raises(WatchlistError) as caught:
        read_watchlist(write(tmp_path, "a.toml", content))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xff\xfe[\x00", "text_invalid_unicode"),
        (b" " * (MAX_FILE_BYTES + 1), "body_too_large"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, "json_too_deep"),
        (b"a = " + b"[" * 100_000, "watchlist_invalid"),
    ],
)
def test_hostile_file_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    with pytest.raises(WatchlistError) as caught:
        read_watchlist(write(tmp_path, "a.toml", content))
    assert caught.value.code == code


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WatchlistError, match="cannot be opened"):
        read_watchlist(tmp_path / "none.toml")


def test_alias_of_two_entities_warns_and_is_no_error(tmp_path: Path) -> None:
    content = '[[company]]\nname = "Delta Air Lines"\naliases = ["Delta"]\n[[company]]\nname = "Delta Corp"\n'
    (warning,) = read_watchlist(write(tmp_path, "a.toml", content + 'aliases = ["Delta"]')).warnings
    assert "'delta' is a name of 'Delta Air Lines' and 'Delta Corp'" in warning


def test_ticker_of_two_entities_warns(tmp_path: Path) -> None:
    content = '[[company]]\nname = "Acme"\ntickers = ["A"]\n[[company]]\nname = "Bolt"\ntickers = ["A"]'
    (warning,) = read_watchlist(write(tmp_path, "a.toml", content)).warnings
    assert "'A' is a name of" in warning


def test_name_that_is_a_word_warns_unless_it_is_described(tmp_path: Path) -> None:
    content = '[[company]]\nname = "Target"\n'
    described = read_watchlist(write(tmp_path, "b.toml", content + 'description = "Shops."'))
    (warning,) = read_watchlist(write(tmp_path, "a.toml", content)).warnings
    assert "'Target' is a common word" in warning
    assert described.warnings == ()
