"""Prints batches and jobs for people to read."""

from __future__ import annotations

import json as jsonlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from db.reports import Attempt, JobDetail, JobResult
from jobs.batch import BatchStatus, BatchStatusReport
from jobs.shown import plural
from pressroom.console import print_json, print_line, say
from pressroom.describers import Line, lines_json
from pressroom.summary import Altered, Summary
from storage.packs import Place

SHORT_DIGEST = 16
"""Number of hexadecimal digits of a digest that are shown: enough to tell two apart; `--json` has all."""

MAX_PARENTS_SHOWN = 5

MAX_ALTERED_SHOWN = 10


def print_status(
    report: BatchStatusReport, *, is_live: bool = True, description: Iterable[Line] = ()
) -> None:
    """Print jobs by state, tokens, speed and errors on stdout, and what a live batch is waiting for.

    `description` comes from the batch's kind.
    """
    counts = report.counts.as_json()
    states = ", ".join(f"{number} {state}" for state, number in counts.items() if number and state != "total")
    usage = report.usage
    rate = Summary(report=report, elapsed_seconds=0, startup_seconds=0).tokens_per_second
    print_labelled("batch", f"{report.batch_id}  {report.status.value}  ({report.kind}, {report.name})")
    print_labelled("jobs", f"{counts['total']}: {states or 'none'}")
    print_labelled(
        "tokens",
        f"{usage.new_tokens} new in {report.working_seconds:.1f} s ({rate:.0f} a second), "
        f"{usage.prompt_tokens} in prompts, {usage.cached_tokens} of them shared",
    )
    for label, text in description:
        print_labelled(label, text)
    for code, number in report.top_errors:
        print_labelled("error", f"{code}: {plural(number, 'job', 'jobs')}")
    for job in report.parked:
        print_labelled(
            "parked",
            f"{job.custom_id!r}, job {job.job_id}: "
            f"{plural(len(job.losses), 'worker was', 'workers were')} lost while running it",
        )
        for loss, number in Counter(map(str, job.losses)).most_common():
            print_labelled("", f"{plural(number, 'time', 'times')}: {loss}")
    if (num_more := report.num_parked - len(report.parked)) > 0:
        print_labelled("", f"and {plural(num_more, 'more parked job', 'more parked jobs')}")
    if report.waiting_reason and report.status is BatchStatus.FAILED:
        print_labelled("failed", report.waiting_reason)
    elif report.waiting_reason and is_live:
        print_labelled("waits", report.waiting_reason)


def report_json(report: BatchStatusReport) -> dict[str, object]:
    """Return the object that `--json` prints for a batch that this command did not run."""
    return Summary(report=report, elapsed_seconds=0, startup_seconds=0).as_json()


def say_altered(left_out: Sequence[Altered]) -> None:
    """List on stderr the results that are left out because their evidence does not match."""
    for altered in left_out[:MAX_ALTERED_SHOWN]:
        say(f"left out [{altered.code}]: {altered}")
    if (num_more := len(left_out) - MAX_ALTERED_SHOWN) > 0:
        say(f"... and {num_more} more are left out")


def print_job(
    detail: JobDetail,
    statement: bytes | None,
    altered: Altered | None,
    description: Sequence[Line],
    *,
    json: bool,
) -> None:
    """Print a job's attempts and its provenance, for people or as one JSON object.

    `statement` must have been checked. It is None if the job has none, or if it was `altered` and must not be
    shown. `description` comes from the job's kind.
    """
    result = detail.result
    parsed = None if statement is None else jsonlib.loads(statement)
    if json:
        print_json({**_as_json(detail, parsed, altered), "description": lines_json(description)})
        return
    print_labelled("job", f"{result.job_id}  {result.status.value}{_parked(detail)}")
    print_labelled("line", f"{result.custom_id!r} of batch {detail.batch_id} ({detail.batch_name})")
    for label, text in description:
        print_labelled(label, text)
    for attempt in detail.attempts:
        print_labelled(f"attempt {attempt.attempt}", _attempt(attempt))
    if result.error_code:
        print_labelled("error", f"{result.error_code}: {result.error_message}")
    if altered is not None:
        print_labelled("altered", f"{altered.code}: {altered.reason}")
    if parsed is not None:
        print_labelled("artifact", str(_place(result)))
        for label, text in _provenance(parsed["predicate"]):
            print_labelled(label, text)


def _as_json(detail: JobDetail, statement: object, altered: Altered | None) -> dict[str, object]:
    result = detail.result
    return {
        "job_id": str(result.job_id),
        "batch_id": str(detail.batch_id),
        "id": result.custom_id,
        "status": result.status.value,
        "parked_at": result.parked_at,
        "attempts": [_attempt_json(attempt) for attempt in detail.attempts],
        "input": dict(result.payload),
        "artifact": None if altered else result.object_key,
        "artifact_range": None if altered or result.byte_offset is None else _place(result).range,
        "metrics": dict(result.metrics),
        "output": None if detail.output is None else dict(detail.output),
        "error": {"code": result.error_code, "message": result.error_message} if result.error_code else None,
        "provenance": statement,
        "altered": None if altered is None else altered.as_json(),
    }


def _place(result: JobResult) -> Place:
    return Place(result.object_key or "", result.num_bytes or 0, result.byte_offset)


def _parked(detail: JobDetail) -> str:
    since = detail.result.parked_at
    if since is None:
        return ""
    release = f"pressroom retry {detail.batch_id} {detail.result.job_id}"
    return f", parked since {since:%Y-%m-%d %H:%M:%S}: `{release}` releases it"


def _attempt_json(attempt: Attempt) -> dict[str, object]:
    evidence = attempt.evidence
    return {
        **asdict(attempt),
        "evidence": None if evidence is None else evidence.model_dump(mode="json", exclude_none=True),
    }


def _attempt(attempt: Attempt) -> str:
    if attempt.ended_at is None:
        took = f"since {attempt.started_at:%H:%M:%S}"
    else:
        took = f"{(attempt.ended_at - attempt.started_at).total_seconds():.1f} s"
    error = f": {attempt.error_code}: {attempt.error_message}" if attempt.error_code else ""
    if attempt.evidence is not None:
        error = f": {attempt.evidence}"
    return (
        f"{attempt.outcome.value}, {took}, worker {attempt.worker_id}, task {attempt.celery_task_id}{error}"
    )


def _provenance(predicate: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a label and a text for each line about the predicate of a provenance statement."""
    job, prompt, code, usage = (predicate[name] for name in ("job", "prompt", "code", "usage"))
    timings, worker_device = predicate["timings"], predicate["worker"]["device"]
    yield "kind", job["kind"]
    yield "input", f"sha256 {predicate['inputs'][0]['sha256'][:SHORT_DIGEST]}"
    yield from _parents(predicate["lineage"])
    if prompt is not None:
        yield (
            "template",
            f"{prompt['template']} {prompt['version']}, sha256 {prompt['sha256'][:SHORT_DIGEST]}",
        )
    if (model := predicate["model"]) is not None:
        yield "model", f"{model['name']}, revision {model['revision']}, {model['source'].partition('#')[0]}"
        yield "", f"weights sha256 {model['weightsSha256'][:SHORT_DIGEST]}"
        yield "", f"tokenizer sha256 {model['tokenizerSha256'][:SHORT_DIGEST]}"
        yield "", f"chat template sha256 {model['chatTemplateSha256'][:SHORT_DIGEST]}"
    if (engine := predicate["engine"]) is not None:
        versions = ", ".join(f"{name} {version}" for name, version in engine["versions"].items())
        yield "engine", f"{engine['name']} ({versions}), {engine['dtype']} on {worker_device}"
    for number, generation in enumerate(predicate["generations"], start=1):
        yield f"call {number}", _generation(generation)
    for encoding in predicate["encodings"]:
        yield (
            encoding["task"],
            f"{plural(encoding['numInputs'], 'text', 'texts')} by {encoding['model']}, inputs sha256 "
            f"{encoding['inputsSha256'][:SHORT_DIGEST]}, answers sha256 "
            f"{encoding['outputsSha256'][:SHORT_DIGEST]}",
        )
        if (calibration := encoding.get("calibration")) is not None:
            yield (
                "",
                f"calibrated by {calibration['file']['name']}, temperature {calibration['temperature']}, "
                f"sha256 {calibration['sha256'][:SHORT_DIGEST]}",
            )
    yield "tokens", f"{usage['newTokens']} new, {usage['promptTokens']} in prompts"
    yield "code", f"pressroom {code['version']}, commit {code['commit']}"
    yield "times", f"queued {timings['queuedAt']}, started {timings['startedAt']}"
    yield "", f"finished {timings['finishedAt']}"


def _parents(lineage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a label and a text for each of the first few parents, from which the job's output was made."""
    label = "made from"
    for parent in lineage["parents"][:MAX_PARENTS_SHOWN]:
        yield label, f"{parent['role']} {parent['name']}, sha256 {parent['sha256'][:SHORT_DIGEST]}"
        label = ""
    if lineage["numParents"] > MAX_PARENTS_SHOWN:
        yield "", f"and {lineage['numParents'] - MAX_PARENTS_SHOWN} more: see --json"


def _generation(generation: Mapping[str, Any]) -> str:
    sampling, usage = generation["sampling"], generation["usage"]
    drawn = f"temperature {sampling['temperature']}, top_p {sampling['topP']}, top_k {sampling['topK']}"
    return (
        f"{usage['promptTokens']} + {usage['newTokens']} tokens, {generation['finishReason']}; {drawn}, "
        f"repetition penalty {sampling['repetitionPenalty']}, seed {sampling['seed']}"
    )


def print_labelled(label: str, text: str) -> None:
    """Print one line on stdout, with the label in the first column and the text in the second."""
    print_line(f"{label:<11} {text}")
