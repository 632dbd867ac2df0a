"""Renders a report as Markdown, HTML and JSON. Text of documents is quoted and escaped, never markup."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from enum import Enum

import jinja2
from markupsafe import Markup

from jobs.shown import json_text, page_text, printable
from kinds.sentiment.report import prose
from kinds.sentiment.report.counted import DOCUMENTS, counted_digest
from kinds.sentiment.report.facts import Driver, ReportFacts
from kinds.sentiment.report.summary import Summary

FORMAT = "pressroom/sentiment-report/1"

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~<>&$-])")
"""Characters that CommonMark 2.4 allows to be escaped by a backslash. `.` is left out: it matters only after
a number at the beginning of a line, where no quotation begins."""


def as_json(facts: ReportFacts, summary: Summary) -> str:
    """Return all facts, the summary, and the sentences dropped from it, as JSON."""
    record = {
        "format": FORMAT,
        "entity": facts.entity.model_dump(mode="json"),
        "window": asdict(facts.window),
        "ends_at": facts.ends_at,
        "open_until": facts.open_until,
        "time_zone": facts.time_zone,
        "past_negative_share": facts.past_negative_share,
        "alerts": [_alert(facts, number) for number in range(len(facts.alerts))],
        "earlier_alerts": [{"key": alert.key, **asdict(alert)} for alert in facts.earlier_alerts],
        "counted": {"num_documents": len(facts.counted), "sha256": counted_digest(facts.counted)},
        "drivers": [{**asdict(driver), "score": driver.score} for driver in facts.drivers],
        "neighbours": [asdict(neighbour) for neighbour in facts.neighbours],
        "history": [asdict(window) for window in facts.history],
        "summary": asdict(summary),
    }
    return json_text(record, indent=2, default=_plain) + "\n"


def _alert(facts: ReportFacts, number: int) -> dict[str, object]:
    alert = facts.alerts[number]
    words = prose.alert_words(alert, facts.entity.name)
    return {"key": alert.key, "words": words, **asdict(alert)}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def escape_markdown(text: str) -> str:
    """Return a text as a single line that Markdown displays unchanged.

    >>> escape_markdown("a\\n*b* <i> [x](y)")
    'a \\\\*b\\\\* \\\\<i\\\\> \\\\[x\\\\]\\\\(y\\\\)'
    """
    return _MARKDOWN.sub(r"\\\1", printable(" ".join(text.split())))


def as_markdown(facts: ReportFacts, summary: Summary) -> str:
    """Return the report as Markdown, for terminals, mail and version control."""
    environment = _environment()
    environment.filters["md"] = escape_markdown
    return environment.get_template("report.md.jinja").render(_variables(facts, summary))


def as_html(facts: ReportFacts, summary: Summary, svg: str) -> str:
    """Return the report as a single HTML page that includes the chart and loads nothing."""
    environment = _environment()
    chart = svg[svg.index("<svg") :]
    return environment.get_template("report.html.jinja").render(
        _variables(facts, summary) | {"chart": Markup(chart)}  # noqa: S704 - matplotlib escapes its texts
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kinds.sentiment.report", "pages"),
        autoescape=jinja2.select_autoescape(("html.jinja",)),  # Markdown has a filter of its own
        undefined=jinja2.StrictUndefined,
        finalize=page_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=prose.score, percent=prose.percent, amount=prose.amount)
    return environment


def _variables(facts: ReportFacts, summary: Summary) -> dict[str, object]:
    return {
        "facts": facts,
        "window": facts.window,
        "entity": facts.entity,
        "summary": summary,
        "when": prose.span(facts.window, facts.ends_at, facts.zone),
        "so_far": prose.so_far_words(facts),
        "mood": prose.mood(facts.window.mean_score),
        "alerts": [
            (a, prose.RULE_NAMES[a.rule], prose.alert_words(a, facts.entity.name)) for a in facts.alerts
        ],
        "drivers": [(driver, _at(driver, facts)) for driver in facts.drivers],
        "counted_words": prose.counted_words(facts),
        "counted_file": f"*.{DOCUMENTS}",
        "counted_sha256": counted_digest(facts.counted),
        "chart_words": chart_words(facts),
        "is_current_alert": bool(facts.alerts),
    }


def _at(driver: Driver, facts: ReportFacts) -> str:
    return prose.moment(driver.published_at, facts.zone)


def chart_words(facts: ReportFacts) -> str:
    """Describe the chart in words, for readers who cannot see it."""
    scored = [window.mean_score for window in facts.history if window.mean_score is not None]
    alerts = len(facts.alerts) + len(facts.earlier_alerts)
    low_high = (
        f"; the score lies between {prose.score(min(scored))} and {prose.score(max(scored))}"
        if scored
        else ""
    )
    return (
        f"Mean score and number of documents of {facts.entity.name} over {len(facts.history)} "
        f"{facts.window.size.value}s{low_high}; {alerts} {'alert' if alerts == 1 else 'alerts'}."
    )
