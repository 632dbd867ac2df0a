"""`pressroom run prompt --plan`: counts the rows to generate, and estimates what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from sqlalchemy import Engine

from db import migrate
from db.kept import classify, cost_of_kept
from db.stages import NewJob
from jobs.errors import InputError
from jobs.kept import Cost, KeptStatus
from jobs.rejection import Rejected
from jobs.shown import duration, plural
from kinds.prompt.kept import row_key
from kinds.prompt.payload import PromptPayload, PromptSettings
from kinds.prompt.row import row_of
from pressroom.commands.session import connected
from pressroom.console import print_json, print_line, say
from pressroom.run import MAX_REJECTED_SHOWN
from workers.intake import BatchRequest, Inputs
from workers.producer import plan_in
from workers.settings import Settings

BLOCK_ROWS = 1_000
"""Number of rows whose keys are looked up at a time."""

ItemT = TypeVar("ItemT")


class PlanWithoutKeepError(InputError):
    """A plan was requested for a batch that keeps nothing."""

    code = "plan_without_keep"


class PlanOfPartsError(InputError):
    """A plan was requested for a batch that reads long documents in parts."""

    code = "plan_of_parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepPlan:
    """The rows of a table by what has to be done for them."""

    keep: str
    num_new: int
    num_changed: int
    num_unchanged: int
    num_rejected: int
    cost: Cost | None
    """Measured cost of the latest results under this name; None if there are none."""

    @property
    def num_tokens(self) -> int | None:
        """Estimated number of tokens to generate; None if nothing was measured yet."""
        return None if self.cost is None else round(self._num_to_generate * self.cost.num_new_tokens)

    @property
    def seconds(self) -> float | None:
        """Estimated time for them with the workers of the measured batch; None if it was not measured."""
        if self.cost is None or self.num_tokens is None or self.cost.tokens_per_second is None:
            return None
        return self.num_tokens / self.cost.tokens_per_second

    @property
    def _num_to_generate(self) -> int:
        return self.num_new + self.num_changed

    def as_json(self) -> dict[str, object]:
        """Return the plan as JSON with stable names; see docs/prompts.md."""
        return {
            "keep": self.keep,
            "num_rows": self._num_to_generate + self.num_unchanged,
            "num_new": self.num_new,
            "num_changed": self.num_changed,
            "num_unchanged": self.num_unchanged,
            "num_rejected": self.num_rejected,
            "estimated_tokens": self.num_tokens,
            "estimated_seconds": None if self.seconds is None else round(self.seconds, 1),
        }

    def lines(self) -> Iterator[str]:
        """Yield the plan as lines for people."""
        changed = f"{self.num_changed:,} changed, {self.num_unchanged:,} unchanged"
        yield f"rows       {self.num_new:,} new, {changed}"
        if self.num_rejected:
            yield f"refused    {plural(self.num_rejected, 'row', 'rows')}"
        yield f"cost       {self._cost_words()}"

    def _cost_words(self) -> str:
        if not self._num_to_generate:
            return "nothing to generate"
        if self.num_tokens is None:
            return f"not measured yet: no results are kept under the name {self.keep!r}"
        tokens = f"about {self.num_tokens:,} tokens"
        if self.seconds is None:
            return f"{tokens}; the time is not known, because the batch that was measured was deleted"
        return f"{tokens}, {duration(self.seconds)}, from what was measured"


def print_plan(request: BatchRequest, inputs: Inputs, *, json: bool) -> None:
    """Print the plan of a batch, which needs no worker. Refused rows are named, at most the first few.

    Raises what `plan_rows` raises.
    """
    with connected() as (database, _, settings):
        migrate.upgrade(database)
        plan = plan_rows(database, request, inputs, settings, lambda rejected: say(f"refused: {rejected}"))
    if json:
        print_json(plan.as_json())
        return
    for line in plan.lines():
        print_line(line)


def plan_rows(
    database: Engine,
    request: BatchRequest,
    inputs: Inputs,
    settings: Settings,
    on_rejected: Callable[[Rejected], None],
) -> KeepPlan:
    """Read the table, and compare each row with what is kept. No batch is made.

    The first few refused rows are passed to `on_rejected`.

    Raises PlanWithoutKeepError, and the errors of workers.producer.submit.
    """
    counts: Counter[KeptStatus] = Counter()
    refuse = _Refusals(on_rejected)
    with database.connect() as connection:
        plan = plan_in(connection, inputs, request, settings, refuse, is_trial=True)
        own = PromptSettings.model_validate(plan.settings)
        if own.keep is None:
            raise PlanWithoutKeepError("a plan compares rows with kept results: give --keep NAME")
        if own.map_template is not None:
            raise PlanOfPartsError(
                "rows that are read in parts cannot be planned, because prompts of long documents contain "
                "texts that are not generated yet: run the batch; with --keep it generates only what changed"
            )
        for block in _blocks(_accepted(plan.jobs, refuse)):
            keys = [
                (job.custom_id, row_key(row_of(PromptPayload.model_validate(job.payload), own), own))
                for job in block
            ]
            counts.update(classify(database, request.kind, keys, keep=own.keep))
    return KeepPlan(
        keep=own.keep,
        num_new=counts[KeptStatus.NEW],
        num_changed=counts[KeptStatus.CHANGED],
        num_unchanged=counts[KeptStatus.UNCHANGED],
        num_rejected=refuse.number,
        cost=cost_of_kept(database, request.kind, keep=own.keep),
    )


class _Refusals:
    """Counts refused rows, and passes the first few on."""

    def __init__(self, on_rejected: Callable[[Rejected], None]) -> None:
        self._on_rejected = on_rejected
        self.number = 0

    def __call__(self, rejected: Rejected) -> None:
        self.number += 1
        if self.number <= MAX_REJECTED_SHOWN:
            self._on_rejected(rejected)


def _accepted(jobs: Iterable[NewJob | Rejected], refuse: Callable[[Rejected], None]) -> Iterator[NewJob]:
    for job in jobs:
        if isinstance(job, Rejected):
            refuse(job)
        else:
            yield job


def _blocks(items: Iterator[ItemT]) -> Iterator[list[ItemT]]:
    while block := list(islice(items, BLOCK_ROWS)):
        yield block
