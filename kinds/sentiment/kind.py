"""The sentiment kind: what each stage runs, and how its jobs are planned from the stage before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from pydantic import BaseModel

from jobs.kind import Background, Context, Input, Intake, Kind, PlanContext, Port, Result, Stage, Tables
from jobs.sources import Sources
from kinds.sentiment.history import History
from kinds.sentiment.options import SentimentOptions
from kinds.sentiment.payload import (
    CollectOutput,
    CollectPayload,
    DocumentsOutput,
    DocumentsPayload,
    ReportPayload,
    SentimentPayload,
    SentimentSettings,
    WindowsOutput,
    WindowsPayload,
)
from kinds.sentiment.report_plan import first_reports
from kinds.sentiment.stages.collect import collect
from kinds.sentiment.stages.documents import analyse_documents
from kinds.sentiment.stages.reports import write_report
from kinds.sentiment.stages.windows import compute_windows
from workers.settings import DEFAULT_CLASSIFIER

ENTITIES_PER_JOB = 8
"""Entities per windows job: one or two seconds of work for entities with thousands of documents each."""


class SentimentReportKind(Kind[SentimentPayload]):
    """Analyses documents about the entities of a watch list: moods, trends, alerts and reports."""

    name = "sentiment_report"
    version = "6"
    default_model = DEFAULT_CLASSIFIER
    intake = Intake(
        reader="kinds.sentiment.intake:read_sentiment_inputs",
        inputs=(
            Input("documents", "Documents: CSV, JSONL, Parquet, RSS or Atom, also .gz;"),
            Input("watchlist", "Watch list as TOML or JSON", is_required=False),
        ),
        options_type=SentimentOptions,
    )
    stages = (
        Stage("collect", CollectOutput),
        Stage("documents", DocumentsOutput),
        Stage("windows", WindowsOutput, max_running=2),  # one reads the history while another computes
        Stage("reports"),
    )
    """Stages in order. A batch that is created from a file begins with `documents`."""
    ports = (
        Port(History, "kinds.sentiment.store.history:open_history"),
        Port(Sources, "workers.connectors.sources:open_sources"),
    )
    payload_type = SentimentPayload
    settings_type = SentimentSettings
    tables = Tables(
        module="kinds.sentiment.tables",
        migrations="kinds.sentiment.migrations",
        writer="kinds.sentiment.store.history:write_records",
    )
    recurring = "kinds.sentiment.monitor_runs:MonitorSchedules"
    describer = "kinds.sentiment.describer:SentimentDescriber"
    exporter = "kinds.sentiment.export:export_sentiment"
    background = (
        Background("notifier", "kinds.sentiment.alerts.notifier:notify_in_background", frozenset({"beat"})),
    )

    def prompt_prefix(self, payload: SentimentPayload) -> str:
        """Return the stage. Report jobs share their instructions; other stages use no language model."""
        return payload.root.stage

    def warm(self) -> None:
        """Load the chart library."""
        import kinds.sentiment.report.chart  # noqa: F401

    def models(
        self,
        model: str,
        settings: BaseModel,
        stage: str,  # noqa: ARG002 - workers run all stages, so they load the models of all stages
    ) -> tuple[str, ...]:
        """Return the classifier and, where they are configured, the embedding model and the summarizer."""
        own = SentimentSettings.model_validate(settings, from_attributes=True)
        return tuple(name for name in (model, own.embedder, own.summarizer) if name)

    def run(self, payload: SentimentPayload, context: Context) -> Result:
        """Run a job of any stage. Raises what the function of that stage raises."""
        settings = SentimentSettings.model_validate(context.settings)
        match payload.root:
            case CollectPayload() as source:
                return collect(source, settings, context)
            case DocumentsPayload() as block:
                return analyse_documents(block, settings, context)
            case WindowsPayload() as entities:
                return compute_windows(entities, settings, context)
            case ReportPayload() as window:
                return write_report(window, settings, context)

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, SentimentPayload]]:
        """Yield the jobs of a stage, planned from the outputs of the stage before."""
        settings = SentimentSettings.model_validate(context.settings)
        plans = {"documents": _plan_documents, "windows": _plan_windows, "reports": _plan_reports}
        return plans[stage](context, settings)


def _plan_documents(
    context: PlanContext,
    settings: SentimentSettings,  # noqa: ARG001
) -> Iterator[tuple[str, SentimentPayload]]:
    for custom_id, collected in context.outputs(CollectOutput):
        for number, sha256 in enumerate(collected.blocks):
            yield f"{custom_id}-{number}", SentimentPayload(DocumentsPayload(block_sha256=sha256))


def _plan_windows(
    context: PlanContext, settings: SentimentSettings
) -> Iterator[tuple[str, SentimentPayload]]:
    """Plan jobs for all entities, including those without documents, whose silence may be worth an alert."""
    since: dict[int, datetime] = {}
    last: datetime | None = None
    for _, analysed in context.outputs(DocumentsOutput):
        last = max(analysed.until, last or analysed.until)
        for position, instant in analysed.since.items():
            since[position] = min(instant, since.get(position, instant))
    as_of = settings.as_of
    observed_until, observed_before = None, settings.observed_until
    if as_of is None:  # a file is no evidence of what the sources contain
        observed_until, observed_before = observed_before, None
    elif context.num_failed:
        # A source that could not be read is no evidence of silence: windows are judged up to the last
        # document that was read, and silence up to the time when all sources had been read.
        if last is None:
            return
        as_of = min(as_of, last)
        observed_until, observed_before = observed_before, None
    for start in range(0, settings.num_entities, ENTITIES_PER_JOB):
        stop = min(start + ENTITIES_PER_JOB, settings.num_entities)
        own = {
            position: min(changes)
            for position in range(start, stop)
            if (changes := [at for at in (since.get(position), observed_before) if at is not None])
        }
        payload = WindowsPayload(
            start=start, stop=stop, since=own, as_of=as_of, observed_until=observed_until
        )
        yield f"entities-{start}-{stop - 1}", SentimentPayload(payload)


def _plan_reports(
    context: PlanContext, settings: SentimentSettings
) -> Iterator[tuple[str, SentimentPayload]]:
    """Plan at most `max_reports` reports; the outputs of the windows jobs contain the total number wanted."""
    wanted = (report for _, judged in context.outputs(WindowsOutput) for report in judged.reports)
    for report in first_reports(wanted, settings.max_reports):
        payload = ReportPayload(
            entity=report.entity,
            size=report.size,
            starts_at=report.starts_at,
            known_until=report.known_until,
        )
        yield f"{report.entity_id}-{report.size.value}-{report.name}", SentimentPayload(payload)
