"""A kind that lists the terms of a set of texts: it first counts them per text, then records each term."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from glossary.known_terms import KnownTerms
from jobs.kind import Artifact, Context, Kind, PlanContext, Port, Result, Stage, Tables

_TERM = re.compile(r"[^\W\d_][\w-]{3,}")


class GlossaryPayload(BaseModel):
    """A text of the table in the first stage, a term in the second."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=100_000, description="the text whose terms are counted")
    number: SkipJsonSchema[int | None] = None
    """Number of occurrences of the term in the batch; None for a text. It is not a column of a table."""


class GlossarySettings(BaseModel):
    """Settings of a batch, which are the same for all its jobs."""

    model_config = ConfigDict(extra="forbid")

    at_least: int = Field(default=2, ge=1, description="terms that stand less often are left out")


class TermCounts(BaseModel):
    """Output of the first stage for a text."""

    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class TermRecord:
    """A term to add to the kind's own table."""

    term: str
    number: int


class GlossaryKind(Kind[GlossaryPayload]):
    """Lists the terms of all texts, how often each occurs, and whether an earlier batch had it."""

    name = "glossary"
    version = "1"
    payload_type = GlossaryPayload
    settings_type = GlossarySettings
    stages = (Stage("count", output_type=TermCounts), Stage("note"))
    ports = (Port(KnownTerms, "glossary.known_terms:open_known_terms"),)
    tables = Tables(
        module="glossary.tables", migrations="glossary.migrations", writer="glossary.known_terms:write_terms"
    )

    def run(self, payload: GlossaryPayload, context: Context) -> Result:
        """Count the terms of a text, or record one term."""
        if payload.number is None:
            counts = Counter(_TERM.findall(payload.text.lower()))
            return Result(
                artifacts=(_text("counts.txt", "\n".join(sorted(counts))),),
                metrics={"num_terms": len(counts)},
                output=TermCounts(counts=counts),
            )
        earlier = context.port(KnownTerms).number_of(payload.text)
        note = f"{payload.text}: {payload.number} times, " + (f"{earlier} before" if earlier else "new")
        return Result(
            artifacts=(_text("note.txt", note),),
            metrics={"number": payload.number, "is_new": not earlier},
            records=(TermRecord(payload.text, payload.number),),
        )

    def plan(
        self,
        stage: str,  # noqa: ARG002 - the second stage is the only one that is planned
        context: PlanContext,
    ) -> Iterable[tuple[str, GlossaryPayload]]:
        """Return a job for each term that occurs often enough in all texts together."""
        totals: Counter[str] = Counter()
        for _, output in context.outputs(TermCounts):
            totals.update(output.counts)
        at_least = GlossarySettings.model_validate(context.settings).at_least
        for term, number in sorted(totals.items()):
            if number >= at_least:
                yield term, GlossaryPayload(text=term, number=number)


def _text(name: str, text: str) -> Artifact:
    return Artifact(name=name, media_type="text/plain", body=f"{text}\n".encode())
