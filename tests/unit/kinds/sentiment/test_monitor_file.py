"""What people write to make a monitor, and what they are told when it cannot be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import PressroomError
from jobs.sources import FileSource
from kinds.sentiment.monitor_file import read_monitor_file, targets_of
from workers.delivery import FileTarget, WebhookTarget

WHOLE = """
name = "steel"
watch = "lists/watch.toml"
cron = "0 7 * * MON-FRI"
time_zone = "Europe/Berlin"
catch_up = "all"
summarizer = "none"

[[source]]
type = "file"
path = "in"

[[source]]
type = "feed"
url = "https://example.com/rss"

[[source]]
type = "query"
url_variable = "NEWS_URL"
sql = "SELECT * FROM news"

[[target]]
type = "file"
name = "lines"
path = "alerts.jsonl"

[[target]]
type = "webhook"
name = "ops"
url = "https://example.com/hook"
secret_variable = "OPS_SECRET"

[policy]
windows = ["hour", "day"]
alert_window = "day"

[settings]
reports = "alerts"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "steel.toml"
    path.write_text(text)
    return path


def test_file_says_all_of_a_monitor_and_paths_are_beside_it(tmp_path: Path) -> None:
    given = read_monitor_file(write(tmp_path, WHOLE))
    assert given.watch == tmp_path / "lists" / "watch.toml"
    assert given.sources[0] == FileSource(path=str(tmp_path / "in"))
    assert given.targets[0] == FileTarget(name="lines", path=str(tmp_path / "alerts.jsonl"))
    assert given.summarizer is None
    assert given.policy.time_zone == "Europe/Berlin"  # of the schedule, as the policy has none of its own
    assert given.schedule is not None


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name = "steel"', 'name = "Steel Works"', "name"),
        ('cron = "0 7 * * MON-FRI"', 'cron = "daily"', "cron"),
        ('"Europe/Berlin"', '"Berlin"', "time zone"),
        ('type = "feed"', 'type = "telex"', "telex"),
        ('url = "https://example.com/rss"', 'url = "ftp://example.com/rss"', "url"),
        ('url = "https://example.com/rss"', "", "either url or url_variable"),
        (
            'url = "https://example.com/hook"',
            'url = "https://example.com/hook"\nurl_variable = "OPS_URL"',
            "either url or url_variable",
        ),
        ('url = "https://example.com/rss"', 'url_variable = "https://x.org/?key=1"', "url_variable"),
        ('secret_variable = "OPS_SECRET"', 'secret = "whsec_1"', "secret"),
        ('name = "ops"', 'name = "lines"', "the same name"),
        ('windows = ["hour", "day"]', 'windows = ["fortnight"]', "fortnight|'hour'"),
        ("[settings]", "[setings]", "setings"),
        ("[policy]", "[policy", "TOML"),
    ],
)
def test_fault_is_named_with_the_file(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in WHOLE
    with pytest.raises(PressroomError, match=said) as caught:
        read_monitor_file(write(tmp_path, WHOLE.replace(before, after)))
    assert caught.value.code in ("monitor_invalid", "cron_invalid")


def test_targets_in_one_word_each_get_names_that_differ() -> None:
    targets = targets_of(
        ["https://example.com/a", "https://example.com/b", "-", "out/alerts.jsonl"], secret_variable="S"
    )
    assert [target.name for target in targets] == ["example.com", "example.com-2", "stdout", "alerts.jsonl"]
    assert isinstance(targets[1], WebhookTarget)
    assert targets[1].secret_variable == "S"
