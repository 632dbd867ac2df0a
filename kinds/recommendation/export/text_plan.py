"""The texts that a run of a refresh writes, and their expected cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import Engine

from db.stages import stage_outputs
from kinds.recommendation.outputs import BriefOutput
from kinds.recommendation.store.texts import cost_of_a_copy

TOKENS_OF_A_COPY = 140.0
"""Tokens per text, used before any text was written; benchmarks/copy_facts.py measured it with the bundled
model."""
TOKENS_PER_SECOND = 100.0
"""Rate that is used before any text was written, measured in the same way on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPlan:
    """The texts that a run writes or would write."""

    num_audiences: int
    num_texts: int
    """Distinct texts; audiences with the same items share one."""
    num_to_write: int
    why: Mapping[str, int]
    """Number of audiences whose text is rewritten, by reason."""
    changes: tuple[Mapping[str, object], ...]
    """The first of these changes."""
    num_tokens: int
    """Tokens to generate, estimated from the latest texts."""
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return the plan under stable names."""
        return {
            "num_audiences": self.num_audiences,
            "num_texts": self.num_texts,
            "num_to_write": self.num_to_write,
            "num_unchanged": self.num_texts - self.num_to_write,
            "why": dict(self.why),
            "changes": list(self.changes),
            "estimated_tokens": self.num_tokens,
            "estimated_seconds": round(self.seconds, 1),
        }


def text_plan(database: Engine, batch_id: UUID) -> TextPlan | None:
    """Return the plan from the stage `brief` of a batch; None if it has no output yet."""
    briefs = [output for _, output in stage_outputs(database, batch_id, "brief", BriefOutput)]
    if not briefs:
        return None
    why: Counter[str] = Counter()
    for brief in briefs:
        why.update(brief.why)
    num_to_write = sum(brief.num_to_write for brief in briefs)
    cost = cost_of_a_copy(database)
    num_tokens = num_to_write * (cost.num_new_tokens if cost else TOKENS_OF_A_COPY)
    rate = cost.tokens_per_second if cost and cost.tokens_per_second else TOKENS_PER_SECOND
    return TextPlan(
        num_audiences=sum(brief.num_audiences for brief in briefs),
        num_texts=sum(brief.num_texts for brief in briefs),
        num_to_write=num_to_write,
        why=dict(why),
        changes=tuple(asdict(change) for brief in briefs for change in brief.changes),
        num_tokens=round(num_tokens),
        seconds=num_tokens / rate,
    )
