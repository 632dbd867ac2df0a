"""The frame of all pages: whatever is shown is escaped, and nothing is loaded."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import jinja2
import pytest

from db.reports import JobResult
from jobs.inference import Usage
from jobs.job import JobStatus
from pressroom import pages
from pressroom.default_export.export import PAGE
from pressroom.pages import PageFailure, page_failures
from pressroom.summary import Altered, Summary
from tests.unit.kinds.article.test_page import summary

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def render(run: Summary, name: str) -> str:
    failure = PageFailure(custom_id=name, status="failed", error_code=name, error_message=name)
    return PAGE.render(
        AT, report=run.report, results=[], num_results=0, failures=[failure], has_rejected=False
    )


def test_frame_escapes_what_it_shows_and_its_policy_allows_no_script() -> None:
    html = render(summary(name="<b>\u202e").run, "<script>\x9b")
    assert "<b>\\u202e" not in html
    assert "&lt;b&gt;\\u202e" in html
    assert html.count("&lt;script&gt;\\u009b") == 3
    assert "<script" not in html
    assert "default-src &#39;none&#39;; style-src &#39;sha256-" in html
    assert "1 March 2026, 12:00 UTC" in html


def test_value_that_is_missing_is_an_error_and_not_an_empty_place() -> None:
    with pytest.raises(jinja2.UndefinedError):
        PAGE.render(AT, report=summary().run.report, num_results=0, has_rejected=False)


def test_altered_results_come_before_the_first_failures_and_all_failures_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_FAILURES", 3)
    run = summary().run
    run.leave_out(Altered(uuid4(), "altered", "artifact_altered", "it was altered"))
    failures = iter([PageFailure.of(job(f"line-{number}")) for number in range(5)])
    shown = page_failures(run, failures)
    assert [failure.custom_id for failure in shown] == ["altered", "line-0", "line-1"]
    assert next(failures, None) is None


def job(custom_id: str) -> JobResult:
    return JobResult(
        job_id=uuid4(),
        custom_id=custom_id,
        payload={},
        status=JobStatus.FAILED,
        attempt=1,
        worker_id=None,
        started_at=None,
        finished_at=None,
        error_code="trial_permanent",
        error_message="no",
        metrics={},
        usage=Usage(0, 0, 0),
        artifact_name=None,
        object_key=None,
        byte_offset=None,
        num_bytes=None,
        sha256=None,
        media_type=None,
    )
