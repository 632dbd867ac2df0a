"""`pressroom monitor` and `pressroom alerts` as a user gives them, over real services."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from db.schedules import list_schedules
from kinds.sentiment.intake import put_monitor_of
from kinds.sentiment.monitor import KIND
from kinds.sentiment.monitor_runs import start_monitor
from kinds.sentiment.options import SentimentOptions
from kinds.sentiment.series.policy import AlertRule, Policy
from kinds.sentiment.store import alerts, monitors
from kinds.sentiment.tables import MonitorRow
from storage.store import Store
from tests.commands import Run
from tests.integration.kinds.sentiment.test_delivery import alert
from workers.settings import Settings

WATCH = '[[company]]\nname = "Acme Steel"\ntickers = ["ACME"]\n'
CREATE = ("monitor", "create", "steel", "--watch", "watch.toml", "--source", "in")


@pytest.fixture(autouse=True)
def watchlist(tmp_path: Path) -> None:
    """The watch list of the monitors, in the folder where the commands run."""
    (tmp_path / "watch.toml").write_text(f'name = "steel"\n{WATCH}')


def test_what_a_backtest_made_is_listed_only_when_asked_for(run: Run, database: Engine) -> None:
    run(*CREATE)
    made = monitors.find_monitor(database, "steel")
    replayed = replace(made, id=monitors.new_id(), name="backtest-0123456789abcdef", sources=())
    with database.begin() as connection:
        monitors.put_monitor(connection, replayed)
    assert [one["name"] for one in run("monitor", "list", "--json")["monitors"]] == ["steel"]
    listed = run("monitor", "list", "--all", "--json")["monitors"]
    assert [one["name"] for one in listed] == ["backtest-0123456789abcdef", "steel"]


def test_a_backtest_without_options_goes_by_the_defaults_whatever_the_one_before_was_told(
    database: Engine, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "watch.toml").write_text(WATCH)
    options = SentimentOptions(monitor="backtest-0123456789abcdef", rules=(AlertRule.SURGE,))

    def put(options: SentimentOptions) -> Policy:
        watch = tmp_path / "watch.toml"
        return put_monitor_of(database, store, options, watch=watch, model="moods", on_note=print).policy

    assert put(options).rules == (AlertRule.SURGE,)
    assert put(options.model_copy(update={"rules": None})) == Policy()


def test_monitor_is_made_changed_paused_and_resumed(run: Run, tmp_path: Path) -> None:
    target = ("--target", "https://example.com/hook?token=secret", "--target", "-")
    made = run(*CREATE, *target, "--cron", "0 7 * * *", "--time-zone", "Europe/Berlin", "--json")
    assert made["cron"] == "0 7 * * *"
    assert made["policy"]["time_zone"] == "Europe/Berlin"
    assert made["sources"] == [{"type": "file", "path": str(tmp_path / "in"), "columns": {}}]
    assert made["targets"][0]["url"] == "https://example.com/hook"

    changed = run(*CREATE, "--rule", "surge", "--window", "hour", "--json")
    assert changed["id"] == made["id"]
    assert (changed["policy"]["rules"], changed["policy"]["alert_window"]) == (["surge"], "hour")
    assert changed["cron"] == "0 7 * * *"  # none was given: it stays

    run("monitor", "pause", "steel")
    (listed,) = run("monitor", "list", "--json")["monitors"]
    assert (listed["next_due_at"], listed["name"]) == (None, "steel")
    assert "paused" in run("monitor", "show", "steel")
    assert "next" in run("monitor", "resume", "steel")


def test_url_in_a_variable_is_shown_and_stored_by_its_name(
    run: Run, database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAID_NEWS_URL", "https://example.com/SECRET")
    monkeypatch.setenv("OPS_URL", "https://example.com/SECRET")
    (tmp_path / "steel.toml").write_text(
        'name = "steel"\nwatch = "watch.toml"\n'
        '[[source]]\ntype = "feed"\nurl_variable = "PAID_NEWS_URL"\n'
        '[[target]]\ntype = "webhook"\nname = "ops"\nurl_variable = "OPS_URL"\n'
        'secret_variable = "OPS_SECRET"\n'
    )
    made = run("monitor", "create", "steel.toml", "--json")
    assert made["sources"][0]["url_variable"] == "PAID_NEWS_URL"
    shown = run("monitor", "show", "steel")
    assert "feed: the URL in PAID_NEWS_URL" in shown
    assert "ops: the URL in OPS_URL" in shown
    assert "SECRET" not in shown.replace("OPS_SECRET", "")
    with database.connect() as connection:
        stored = str(connection.execute(select(MonitorRow.__table__)).all())
    assert "example.com" not in stored


def test_monitor_that_no_worker_could_run_is_refused_when_it_is_made(
    run: Run, monkeypatch: pytest.MonkeyPatch, database: Engine
) -> None:
    monkeypatch.setenv("PRESSROOM_PROFILES", '{"default": {"models": ["other"]}}')
    assert "model_without_profile" in run(*CREATE, code=1)
    assert list_schedules(database, KIND) == []


@pytest.mark.parametrize("extra", [("--cron", "hourly"), ("--cron", "0 * * * *", "--time-zone", "Mars")])
def test_schedule_that_is_none_is_refused(run: Run, extra: tuple[str, ...], database: Engine) -> None:
    assert "error [" in run(*CREATE, *extra, code=1)
    assert list_schedules(database, KIND) == []


def test_reports_and_their_limit_are_settings_of_the_monitor(
    run: Run, database: Engine, tmp_path: Path
) -> None:
    run(*CREATE, "--reports", "all", "--max-reports", "40")
    settings = monitors.find_monitor(database, "steel").settings
    assert (settings["reports"], settings["max_reports"]) == ("all", 40)

    assert "reports" in run(*CREATE, "--reports", "some", code=2)
    assert monitors.find_monitor(database, "steel").settings == settings

    (tmp_path / "steel.toml").write_text(
        'name = "steel"\nwatch = "watch.toml"\n[settings]\nreports = "all"\nmax_reports = 2000\n'
    )
    run("monitor", "create", "steel.toml")
    assert monitors.find_monitor(database, "steel").settings["max_reports"] == 2000
    assert "not both" in run("monitor", "create", "steel.toml", "--max-reports", "0", code=2)


def test_monitor_without_a_schedule_cannot_be_paused(run: Run) -> None:
    run(*CREATE)
    assert "monitor_without_schedule" in run("monitor", "pause", "steel", code=1)
    assert "monitor_not_found" in run("monitor", "show", "iron", code=1)


def test_second_run_is_told_of_the_first_and_how_to_go_on_with_it(run: Run, database: Engine) -> None:
    run(*CREATE)
    monitor = monitors.find_monitor(database, "steel")
    with database.begin() as connection:
        under_way = start_monitor(connection, monitor, datetime.now(UTC), Settings())
    refused = run("monitor", "run", "steel", code=1)
    assert "error [run_under_way]" in refused
    assert f"pressroom status {under_way}" in refused
    assert f"--batch {under_way}" in refused
    assert [one["id"] for one in run("batches", "--json")["batches"]] == [str(under_way)]


def test_alert_is_listed_shown_acknowledged_and_muted(run: Run, database: Engine) -> None:
    made = run(*CREATE, "--json")
    alert_id = str(alert(database, monitors.find_monitor(database, "steel").id, ["stdout"]))
    assert made["num_entities"] == 1

    (listed,) = run("alerts", "list", "--monitor", "steel", "--json")["alerts"]
    assert (listed["id"], listed["status"], listed["is_muted"]) == (alert_id, "open", False)
    assert run("alerts", "list", "--status", "acknowledged", "--json") == {"alerts": []}
    assert run("alerts", "show", alert_id, "--json")["deliveries"][0]["target"] == "stdout"
    assert run("alerts", "ack", alert_id, "--note", "seen", "--json")["note"] == "seen"
    assert "acknowledged" in run("alerts", "show", alert_id)

    refused = run("alerts", "mute", "steel", "--entity", "acme", code=1)
    assert "error [entity_not_watched]: 'acme' is not on the watch list, which has acme-steel" in refused
    assert alerts.list_mutes(database) == []
    of_one = run("alerts", "mute", "steel", "--entity", "acme-steel", "--json")
    run("alerts", "unmute", of_one["id"])

    mute = run("alerts", "mute", "steel", "--rule", "surge", "--hours", "2", "--json")
    assert run("alerts", "list", "--json")["alerts"][0]["is_muted"]
    assert mute["id"] in run("alerts", "mutes")
    run("alerts", "unmute", mute["id"])
    assert alerts.list_mutes(database) == []
    assert "mute_not_found" in run("alerts", "unmute", mute["id"], code=1)
