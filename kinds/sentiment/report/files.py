"""The files of a report: Markdown, HTML, JSON, the chart, and the documents that its window counts.

Text of documents is quoted and escaped, and never treated as markup.

The file `documents.jsonl` has a line for each mention of the entity in the window whose relevance is at least
the monitor's `min_relevance`, both first reports and follow-ups. Lines are sorted by `document_id` (by code
points, which is the order of the UTF-8 bytes). All counts of the window follow from the file:

- A line with `novelty` 1 is a document of the window. Any other line is a follow-up and counts only as such.
- The class of a document is the one with the largest of the three probabilities.
- The weight of a document is its `relevance`, at least 1.
- The mean score is the weighted mean of `score`, rounded to 1e-9.

The report has these documents as one parent, of role `documents`, which is named after the window. Its digest
is the SHA-256 over a line for each document, in the order of the file: the document's own SHA-256 in hex, a
space, its id in UTF-8, a newline. An id is printable, so it contains no newline. To compute the digest from
the file, run

    jq -r '.sha256 + " " + .document_id' documents.jsonl | sha256sum

For each original document, `jobs.documents.document.document_digest` computes its digest: the SHA-256 over
title, text, language, source and `published_at` in UTC (2026-03-02T09:00:00+00:00), as they were read, joined
by NUL. `first_id` names the document that a follow-up repeats. If that document was published before the
window, it has no line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum

import jinja2
from markupsafe import Markup

from jobs.inference import Inference
from jobs.kind import Artifact, Parent, Template
from jobs.shown import json_text, page_text, printable
from kinds.sentiment.report import prose
from kinds.sentiment.report.facts import Driver, ReportFacts
from kinds.sentiment.report.summary import Summary, write_summary
from kinds.sentiment.series.mention import CountedDocument
from kinds.sentiment.series.time_windows import EntityWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a `reports` job."""

    artifacts: tuple[Artifact, ...]
    """Files report.md, report.html, report.json, chart.svg, chart.png and documents.jsonl, in this order."""
    template: Template | None
    metrics: dict[str, object]


def make_report(facts: ReportFacts, inference: Inference | None, *, model: str | None, seed: int) -> Report:
    """Write the summary, draw the chart and render the report.

    `model` names the language model; without `inference` the summary is built from fixed rules. Raises what
    `generate()` of the inference raises.
    """
    # Imported here because matplotlib takes half a second, and the command line imports the kind.
    from kinds.sentiment.report.chart import draw_chart

    summary = write_summary(facts, inference, model=model, seed=seed)
    svg, png = draw_chart(facts)
    bodies = (
        ("report.md", "text/markdown", as_markdown(facts, summary).encode()),
        ("report.html", "text/html", as_html(facts, summary, svg.decode()).encode()),
        ("report.json", "application/json", as_json(facts, summary).encode()),
        ("chart.svg", "image/svg+xml", svg),
        ("chart.png", "image/png", png),
        (DOCUMENTS, "application/jsonl", counted_lines(facts.counted)),
    )
    window = facts.window
    return Report(
        artifacts=tuple(Artifact(name=name, media_type=media, body=body) for name, media, body in bodies),
        template=summary.template,
        metrics={
            "entity_id": facts.entity.id,
            "window": window.size.value,
            "starts_at": window.starts_at.isoformat(),
            "num_documents": window.num_documents,
            "num_followups": window.num_followups,
            "mean_score": window.mean_score,
            "change": window.change,
            "num_alerts": len(facts.alerts),
            "summary": summary.text,
            "is_summary_by_model": summary.is_by_model,
            "num_points": summary.num_points,
            "num_sentences_kept": len(summary.sentences) if summary.is_by_model else 0,
            "num_sentences_dropped": len(summary.dropped),
        },
    )


FORMAT = "pressroom/sentiment-report/1"

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~<>&$-])")
"""Characters that CommonMark 2.4 allows to be escaped by a backslash. `.` is left out, because it matters
only after a number at the beginning of a line, where no quotation begins."""


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
    raise TypeError(f"{type(value).__name__} cannot be represented in JSON")


def escape_markdown(text: str) -> str:
    """Return a text as a single line that Markdown displays unchanged.

    >>> escape_markdown("a\\n*b* <i> [x](y)")
    'a \\\\*b\\\\* \\\\<i\\\\> \\\\[x\\\\]\\\\(y\\\\)'
    """
    return _MARKDOWN.sub(r"\\\1", printable(" ".join(text.split())))


_FILTERS = {"score": prose.score, "percent": prose.percent, "amount": prose.amount}


def as_markdown(facts: ReportFacts, summary: Summary) -> str:
    """Return the report as Markdown, for terminals, mail and version control."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kinds.sentiment.report", "pages"),
        autoescape=False,  # noqa: S701 - the filter `md` escapes texts instead
        undefined=jinja2.StrictUndefined,
        finalize=page_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"md": escape_markdown, **_FILTERS})
    return environment.get_template("report.md.jinja").render(_variables(facts, summary))


def as_html(facts: ReportFacts, summary: Summary, svg: str) -> str:
    """Return the report as a single HTML page that includes the chart and loads no other files."""
    from pressroom.pages import Page  # workers load `pressroom` only when they need it

    page = Page(
        package="kinds.sentiment.report",
        template="report.html.jinja",
        style="report.css",
        filters=_FILTERS,
        has_inline_styles=True,  # the chart has inline styles
    )
    chart = Markup(svg[svg.index("<svg") :])  # noqa: S704 - matplotlib escapes its texts
    return page.render(facts.ends_at, chart=chart, **_variables(facts, summary))


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


DOCUMENTS = "documents.jsonl"


def counted_lines(documents: Iterable[CountedDocument]) -> bytes:
    """Return the content of documents.jsonl. Floats keep all digits, so that sums over them are exact."""
    return b"".join(_line(document) for document in in_order(documents))


def counted_digest(documents: Iterable[CountedDocument]) -> str:
    """Return the digest of the parent that represents all documents of a window.

    >>> counted_digest([])[:16]
    'e3b0c44298fc1c14'
    """
    lines = "".join(f"{document.sha256} {document.document_id}\n" for document in in_order(documents))
    return hashlib.sha256(lines.encode()).hexdigest()


def counted_parent(window: EntityWindow, documents: Iterable[CountedDocument]) -> Parent:
    """Return all documents of the window as one parent, named like "acme-steel/day/2026-03-02T00:00:00Z"."""
    name = f"{window.entity_id}/{window.size}/{window.starts_at:%Y-%m-%dT%H:%M:%SZ}"
    return Parent("documents", name, counted_digest(documents))


def in_order(documents: Iterable[CountedDocument]) -> list[CountedDocument]:
    """Return the documents sorted by id."""
    return sorted(documents, key=lambda document: document.document_id)


def _line(document: CountedDocument) -> bytes:
    line = {
        "document_id": document.document_id,
        "sha256": document.sha256,
        "published_at": document.published_at.isoformat().replace("+00:00", "Z"),
        "relevance": document.relevance,
        "p_negative": document.p_negative,
        "p_neutral": document.p_neutral,
        "p_positive": document.p_positive,
        "score": document.score,
        "novelty": document.novelty,
        "first_id": document.first_id,
    }
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
