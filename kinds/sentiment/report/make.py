"""Makes a report from its facts: Markdown, HTML, JSON and the chart, as the artifacts of a job."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.inference import Inference
from jobs.kind import Artifact, Template
from kinds.sentiment.report.counted import DOCUMENTS, counted_lines
from kinds.sentiment.report.document import as_html, as_json, as_markdown
from kinds.sentiment.report.facts import ReportFacts
from kinds.sentiment.report.summary import write_summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a `reports` job."""

    artifacts: tuple[Artifact, ...]
    """Files report.md, report.html, report.json, chart.svg, chart.png and documents.jsonl, in this order."""
    template: Template | None
    metrics: dict[str, object]


def make_report(facts: ReportFacts, inference: Inference | None, *, model: str | None, seed: int) -> Report:
    """Write the summary, draw the chart and render the report.

    `model` names the language model; without `inference` the summary is written by rule. Raises what
    generate() raises.
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
