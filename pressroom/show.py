"""Batches and jobs for people to read."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict

import typer

from db.reports import JobDetail
from jobs.batch import BatchStatusReport
from pressroom.console import print_json
from pressroom.summary import Summary


def print_status(report: BatchStatusReport) -> None:
    """A few lines on stdout: jobs by state, tokens, speed, errors."""
    counts = report.counts.as_json()
    states = ", ".join(f"{number} {state}" for state, number in counts.items() if number and state != "total")
    usage = report.usage
    rate = Summary(report=report, elapsed_seconds=0, startup_seconds=0).tokens_per_second
    typer.echo(f"batch   {report.batch_id}  {report.status.value}  ({report.kind}, {report.name})")
    typer.echo(f"jobs    {counts['total']}: {states or 'none'}")
    typer.echo(
        f"tokens  {usage.new_tokens} new in {report.working_seconds:.1f} s ({rate:.0f} a second), "
        f"{usage.prompt_tokens} in prompts, {usage.cached_tokens} of them shared"
    )
    for code, number in report.top_errors:
        typer.echo(f"error   {code}: {number} jobs")
    if report.waiting_reason:
        typer.echo(f"waits   {report.waiting_reason}")


def print_job(detail: JobDetail, *, json: bool) -> None:
    """A job's attempts and its provenance."""
    result = detail.result
    statement = None if result.statement is None else jsonlib.loads(result.statement)
    if json:
        print_json(
            {
                "job_id": str(result.job_id),
                "batch_id": str(detail.batch_id),
                "id": result.custom_id,
                "status": result.status.value,
                "attempts": [asdict(attempt) for attempt in detail.attempts],
                "input": result.payload,
                "artifact": result.object_key,
                "metrics": result.metrics,
                "error": {"code": result.error_code, "message": result.error_message},
                "provenance": statement,
            }
        )
        return
    typer.echo(f"job         {result.job_id}  {result.status.value}")
    typer.echo(f"line        {result.custom_id} of batch {detail.batch_id} ({detail.batch_name})")
    for attempt in detail.attempts:
        ended = (
            f"{(attempt.ended_at - attempt.started_at).total_seconds():.1f} s" if attempt.ended_at else "now"
        )
        error = f"  {attempt.error_code}: {attempt.error_message}" if attempt.error_code else ""
        typer.echo(
            f"attempt {attempt.attempt:<3} {attempt.outcome.value}  {ended}  on {attempt.worker_id}{error}"
        )
    if result.error_code:
        typer.echo(f"error       {result.error_code}: {result.error_message}")
    if statement is not None:
        typer.echo(f"artifact    {result.object_key}  sha256 {result.sha256}")
        _print_section(statement["predicate"], "")


def _print_section(section: object, path: str) -> None:
    """Leaves of the statement, one a line, under their dotted path."""
    if isinstance(section, dict):
        for name, value in section.items():
            _print_section(value, f"{path}.{name}" if path else name)
    elif isinstance(section, list):
        for index, value in enumerate(section):
            _print_section(value, f"{path}[{index}]")
    else:
        typer.echo(f"{path:<38} {section}")
