"""The benchmark of orchestration: its kinds, its choice of rows, and the ratios of its table."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from benchmarks.orchestration import PLUGINS, PROFILES, ROWS, Figure, make_lines, rows_of, table
from jobs.registry import load_kind
from workers.settings import Settings


def test_rows_are_measured_in_their_order_whatever_the_order_of_the_option() -> None:
    assert rows_of("articles,cancel,trivial") == ["trivial", "cancel", "articles"]


def test_no_worker_is_started_after_lines_have_been_queued() -> None:
    """A worker would run them instead of the jobs that are measured."""
    rows = list(ROWS)
    assert max(map(rows.index, ("trivial", "request", "soak"))) < min(map(rows.index, ("lines", "articles")))


def test_lines_are_cancelled_before_they_are_retried_and_retried_before_they_expire() -> None:
    """Each of these rows needs the jobs in the status in which the row before leaves them."""
    assert [row for row in ROWS if row in ("expire", "retry", "cancel")] == ["cancel", "retry", "expire"]


def test_unknown_row_is_refused_by_name() -> None:
    with pytest.raises(ArgumentTypeError, match="there is no row cancle: choose one of trivial, request"):
        rows_of("trivial,cancle")


def test_only_rates_are_compared_with_the_celery_tasks() -> None:
    header, *rows = table(
        {
            "trivial": Figure(what="trivial jobs", value=300, unit="jobs/s", details={"places": 4}),
            "results": Figure(what="results", value=5, unit="s"),
            "task": Figure(what="plain tasks", value=150, unit="jobs/s"),
        }
    )
    assert header.split() == ["/", "task", "/", "nothing"]
    assert [row.split() for row in rows] == [
        ["trivial", "jobs", "300.0", "jobs/s", "2.00", "places", "4"],
        ["results", "5.0", "s"],
        ["plain", "tasks", "150.0", "jobs/s", "1.00"],
    ]


@pytest.mark.parametrize("name", PROFILES)
def test_kinds_are_installed_as_those_of_another_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGINS))
    kind = load_kind(name)
    (line,) = make_lines(1)
    assert kind.payload_type.model_validate({"text": line["text"]})
    models = kind.models(kind.default_model or "", kind.settings_type(), "run")
    assert Settings.model_construct().profile_of(models) == PROFILES[name]
