"""The stage `collect`: ingests a recommender's files as resources and withdraws unavailable items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import rfc8785

from jobs.documents.reading import OnNote
from jobs.errors import ConfigurationError
from jobs.kind import Artifact, Context, Parent, Resources, Result
from jobs.rejection import Rejected
from jobs.shown import json_text
from kinds.recommendation.catalogue.ingest import ingest
from kinds.recommendation.catalogue.inputs import Inputs, IntakeOptions
from kinds.recommendation.materials import JSON, JSONL, load_catalogue, load_previous
from kinds.recommendation.outputs import CollectOutput, Withdrawal
from kinds.recommendation.payload import RecommendationSettings
from kinds.recommendation.recommender import RecommenderSources
from kinds.recommendation.release import ReleaseManifest

MAX_REJECTED_LISTED = 10_000
"""Maximum number of rejected rows that are listed individually; all are counted."""


class _RejectedRows:
    """Counts rejected rows by code, and keeps the first ones."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self._rows: list[Rejected] = []

    def add(self, row: Rejected) -> None:
        self.codes[row.code] += 1
        if len(self._rows) < MAX_REJECTED_LISTED:
            self._rows.append(row)

    def artifact(self) -> Artifact:
        lines = "".join(json_text(row.as_json()) + "\n" for row in self._rows)
        return Artifact(name="rejected.jsonl", media_type=JSONL, body=lines.encode())


def collect(settings: RecommendationSettings, context: Context) -> Result:
    """Ingest the recommender's files.

    Raises FileRejectedError, ConfigurationError and the errors of the ports.
    """
    sources = settings.sources
    if sources is None:
        raise ConfigurationError(
            "the batch names neither a catalogue nor a log: queue the run again",
            code="refresh_without_sources",
        )
    rejected = _RejectedRows()
    notes: list[str] = []
    previous = load_previous(context.resources, settings)
    inputs_sha256, inputs = ingest_files(
        sources,
        settings.intake,
        previous,
        context.resources,
        rejected.add,
        now=settings.as_of,
        on_note=notes.append,
    )
    gone = gone_items(context.resources, previous, inputs_sha256, settings.as_of)
    withdrawn = Withdrawal(recommender_id=settings.recommender_id, reasons=gone)
    return Result(
        artifacts=(rejected.artifact(),),
        output=CollectOutput(
            inputs_sha256=inputs_sha256,
            num_items=inputs.num_items,
            num_rejected=rejected.codes.total(),
            num_withdrawn=len(gone),
        ),
        metrics={
            "num_items": inputs.num_items,
            "num_users": inputs.num_users,
            "num_rejected": rejected.codes.total(),
            "rejected": dict(rejected.codes),
            "counts": dict(inputs.counts),
            "notes": notes,
            "num_withdrawn": len(gone),
        },
        records=(withdrawn,) if gone and not settings.plan_only else (),
        parents=(Parent("catalogue", sources.catalogue, inputs.catalogue_sha256),),
    )


def ingest_files(
    sources: RecommenderSources,
    options: IntakeOptions,
    previous: ReleaseManifest | None,
    resources: Resources,
    on_rejected: Callable[[Rejected], None],
    *,
    now: datetime,
    on_note: OnNote | None = None,
) -> tuple[str, Inputs]:
    """Store the files as resources; return the digest of the inputs and the inputs themselves.

    The number of blocks starts from that of the previous release, so that unchanged blocks are recognised.
    Raises FileRejectedError, InputDroppedError and StoreError.
    """
    if previous is not None and options.num_blocks is None:
        options = options.model_copy(update={"num_blocks": len(previous.blocks)})
    inputs = ingest(
        Path(sources.catalogue),
        Path(sources.interactions),
        options=options,
        write=lambda body, media_type: resources.write(body, media_type=media_type),
        on_rejected=on_rejected,
        now=now,
        on_note=on_note,
    )
    body = rfc8785.dumps(inputs.model_dump(mode="json"))
    return resources.write(body, media_type=JSON), inputs


def gone_items(
    resources: Resources, previous: ReleaseManifest | None, inputs_sha256: str, at: datetime
) -> dict[str, str]:
    """Return the ids of the previous release's items that must no longer be shown, each with the reason."""
    if previous is None:
        return {}
    now = load_catalogue(resources, inputs_sha256)
    gone = {}
    for item in load_catalogue(resources, previous.inputs_sha256).items:
        if not item.is_available(previous.as_of):
            continue  # the item was on no list
        current = now.by_id.get(item.id)
        if current is None:
            gone[item.id] = "no longer in the catalogue"
        elif not current.is_available(at):
            has_expired = current.available_until is not None and current.available_until <= at
            gone[item.id] = "expired" if has_expired else "not available"
    return gone
