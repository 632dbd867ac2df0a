"""Under which key a text is known: the same key, the same text, and nothing to generate."""

from __future__ import annotations

from jobs.provenance import payload_digest
from kinds.recommendation.texts.policy import Brief, CopyPolicy

RULES_VERSION = 2
"""Of reading, checks and plain template; rises when the same answers would come to another text."""

_NOT_IN_TEXTS = {"scope", "featured", "fields", "template"}
"""Settings that choose what a brief holds, and stand in it; the template is in the key by its digest."""


def copy_key(brief: Brief, policy: CopyPolicy, template_sha256: str, model: str) -> str:
    """SHA-256 of all that the text depends on, and of nothing else; `model` is its digest, or its name.

    Whom the text is for is not in it: two segments with the same items for the same reason share one. The
    ids of the items are, so that what a text is made from is always its own items.
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
    """The seed of a text, from its key: who asks for it again gets the same.

    >>> copy_seed("00000001" + 56 * "0")
    1
    """
    return int(key[:8], 16)
