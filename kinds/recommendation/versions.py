"""Versions of the parts of Pressroom that a release depends on."""

from __future__ import annotations

from jobs.provenance import payload_digest
from kinds.recommendation.texts.text import RULES_VERSION, TextPolicy
from kinds.recommendation.texts.write import text_template

FIT_VERSION = 1
"""Version of fitting, which is raised when the same interactions give a different model."""

RANKING_VERSION = 1
"""Version of ranking, which is raised when the same inputs give different lists."""


def code_digest(policy: TextPolicy) -> str:
    """Return a digest of all versions, which changes when the same inputs may give a different release.

    Raises TemplateError.
    """
    return payload_digest(
        {
            "fit": FIT_VERSION,
            "ranking": RANKING_VERSION,
            "texts": RULES_VERSION,
            "template": text_template(policy).identity.sha256,
        }
    )
