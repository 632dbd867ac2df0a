"""One text: the language model writes it, and only what the rows say is kept."""

from __future__ import annotations

from jobs.inference import Inference
from jobs.kinds.recommendation.copy_facts import read_facts
from jobs.kinds.recommendation.copy_policy import Brief, CopyPolicy, CopyText
from jobs.kinds.recommendation.copy_template import plain_copy
from jobs.prompts import PromptTemplate, load_template


def copy_template(policy: CopyPolicy) -> PromptTemplate:
    """The prompt template that a policy names: "recommendation-1". Raises TemplateError."""
    name, _, version = policy.template.rpartition("-")
    return load_template(name, version)


def write_copy(brief: Brief, policy: CopyPolicy, inference: Inference, seed: int) -> CopyText:  # noqa: ARG001
    """Headline, blurb and reason. Raises TemplateError and what generate() raises."""
    parts = plain_copy(read_facts(brief, policy))
    return CopyText(**parts, origin="template", template_parts=tuple(parts))
