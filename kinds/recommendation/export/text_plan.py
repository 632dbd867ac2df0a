"""Which texts a run of a refresh writes, and what that is expected to cost."""

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
"""Before any was written: of the bundled model, as benchmarks/copy_facts.py measured."""
TOKENS_PER_SECOND = 100.0
"""Likewise, on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPlan:
    """Which texts a run writes, or would write."""

    num_audiences: int
    num_texts: int
    """Different ones; audiences of the same items share one."""
    num_to_write: int
    why: Mapping[str, int]
    """Audiences whose text is written anew, by reason."""
    changes: tuple[Mapping[str, object], ...]
    """The first of them."""
    num_tokens: int
    """To be generated, by what the latest texts took."""
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Stable names."""
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
    """What the stage `brief` of a batch found; None before it has."""
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
