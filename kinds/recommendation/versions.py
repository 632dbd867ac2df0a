"""What of Pressroom itself a release depends on."""

from __future__ import annotations

from jobs.provenance import payload_digest
from kinds.recommendation.texts.key import RULES_VERSION
from kinds.recommendation.texts.policy import CopyPolicy
from kinds.recommendation.texts.write import copy_template

FIT_VERSION = 1
"""Rises when the same interactions come to another model."""

RANKING_VERSION = 1
"""Rises when the same inputs come to other lists."""


def code_digest(policy: CopyPolicy) -> str:
    """The same while the same inputs come to the same release. Raises TemplateError."""
    return payload_digest(
        {
            "fit": FIT_VERSION,
            "ranking": RANKING_VERSION,
            "copy": RULES_VERSION,
            "template": copy_template(policy).identity.sha256,
        }
    )
