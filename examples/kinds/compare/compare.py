"""A kind with two inputs: it compares each text of one table with the text of the same id in another."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from jobs.kind import Artifact, Context, Input, Intake, Kind, Result
from jobs.rejection import Rejected
from pressroom.describers import Describer

if TYPE_CHECKING:
    from db.reports import JobDetail
    from db.stages import NewJob
    from workers.intake import IntakePlan, IntakeSource


class ComparePayload(BaseModel):
    """The two versions of one text."""

    model_config = ConfigDict(extra="forbid")

    before: str
    after: str


class CompareKind(Kind[ComparePayload]):
    """Compares the texts of two tables, by id."""

    name = "compare"
    version = "1"
    payload_type = ComparePayload
    intake = Intake(
        reader="compare:read_pairs",
        inputs=(
            Input("before", "Table with the columns id and text: CSV, JSONL or Parquet, also .gz;"),
            Input("after", "Table with the same columns"),
        ),
    )
    describer = "compare:CompareDescriber"

    def run(self, payload: ComparePayload, context: Context) -> Result:  # noqa: ARG002
        """Write a unified diff of the two versions."""
        lines = list(
            difflib.unified_diff(payload.before.splitlines(), payload.after.splitlines(), "before", "after")
        )
        body = "\n".join(lines).encode() + b"\n"
        return Result(
            artifacts=(Artifact(name="difference.diff", media_type="text/plain", body=body),),
            metrics={"has_changed": bool(lines)},
        )


def read_pairs(source: IntakeSource) -> IntakePlan:
    """Yield a job for each id that both tables have. Implements workers.intake.IntakeReader."""
    from workers.intake import IntakePlan, new_job

    def jobs() -> Iterator[NewJob | Rejected]:
        before: dict[str, str] = {}
        seen: set[str] = set()
        for name in ("before", "after"):
            for record in source.records(name):
                if isinstance(record, Rejected):
                    yield record
                    continue
                id_, text = record.fields.get("id"), record.fields.get("text")
                if not isinstance(id_, str) or not isinstance(text, str):
                    yield record.reject("column_missing", "has no id or no text", "write both as texts")
                elif name == "before":
                    before[id_] = text
                elif id_ in seen or id_ not in before:
                    reason = "is repeated" if id_ in seen else "is not in the other table"
                    yield record.reject("id_unusable", f"{id_!r} {reason}", "correct the id", "id")
                else:
                    seen.add(id_)
                    pair = ComparePayload(before=before[id_], after=text)
                    yield new_job(source.request.kind, id_, pair)

    return IntakePlan(jobs=jobs(), settings=source.request.settings, model="", name="comparison")


class CompareDescriber(Describer):
    """Describes a comparison for `pressroom show`."""

    def describe_job(self, detail: JobDetail) -> Iterable[tuple[str, str]]:
        """Yield a line that states whether the text has changed."""
        yield "text", "has changed" if detail.result.metrics.get("has_changed") else "is the same"
