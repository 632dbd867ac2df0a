"""Computes the key of a text: if a text with the same key exists, it is used and nothing is generated."""

from __future__ import annotations

from jobs.provenance import payload_digest
from kinds.recommendation.texts.policy import Brief, CopyPolicy

RULES_VERSION = 2
"""Version of reading, checks and plain template; raised when the same answers would give another text."""

_NOT_IN_TEXTS = {"scope", "featured", "fields", "template"}
"""Settings whose effect is already in the brief; the template is in the key by its digest."""


def copy_key(brief: Brief, policy: CopyPolicy, template_sha256: str, model: str) -> str:
    """Return the SHA-256 of exactly what the text depends on; `model` is the model's digest or its name.

    The audience is not part of the key: two segments with the same items and the same reason share a text.
    The ids of the items are, so that a text is always made from its own items.
    """
    return payload_digest(
        {
            "rules": RULES_VERSION,
            "items": [{"id": item.item_id, "row": item.row} for item in brief.items],
            "fields": [name for name in policy.fields if any(name in item.row for item in brief.items)],
            "because": brief.because,
            "policy": policy.model_dump(mode="json", exclude=_NOT_IN_TEXTS),
            "template": template_sha256,
            "model": model,
        }
    )


def copy_seed(key: str) -> int:
    """Return the seed of a text from its key, so that writing it again gives the same text.

    >>> copy_seed("00000001" + 56 * "0")
    1
    """
    return int(key[:8], 16)
