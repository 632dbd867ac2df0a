"""A text: who shares it, what it is about, and the key under which it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from jobs.provenance import payload_digest
from kinds.recommendation.catalogue.item import Item

MAX_HEADLINE_CHARACTERS = 80
MAX_BLURB_CHARACTERS = 300
MAX_REASON_CHARACTERS = 160

MODEL, TEMPLATE = "model", "template"
"""Origins of a text: the language model or the plain template."""

NEEDED = frozenset({"here"})
"""Words that a policy cannot forbid, because the plain template uses them when nothing else is possible."""


class TextScope(StrEnum):
    """Kind of audience that shares one text. Sharing limits the number of texts if there are many users."""

    USER = "user"
    """One text per user, about the first items of the user's list."""
    SEGMENT = "segment"
    """One text per segment, about the items that are at the top of its users' lists."""
    ITEM = "item"
    """One text for each item that is on any list."""
    NONE = "none"


class TextPolicy(BaseModel):
    """The part of a recommender's settings that texts depend on."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    scope: TextScope = TextScope.SEGMENT
    featured: int = Field(default=3, ge=1, le=5)
    """Number of items that a text for a user or a segment is about."""
    fields: tuple[str, ...] = ("title", "category", "brand", "material", "colour", "price", "currency")
    """Fields and attributes of an item's row that the text may use; other fields do not affect the text."""
    template: str = "recommendation-1"
    """Name of the prompt template, with its version."""
    tone: str = Field(default="friendly", max_length=100)
    forbidden: tuple[str, ...] = ()
    """Words that no text may contain."""

    @field_validator("forbidden")
    @classmethod
    def _sentences_stay_possible(cls, forbidden: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in forbidden:
            if not phrase.strip():
                raise ValueError("a forbidden phrase is empty: remove it")
            if all(word in NEEDED for word in phrase.lower().split()):
                raise ValueError(
                    f"{phrase!r} cannot be forbidden, because the plain template needs it: remove it from "
                    "the forbidden phrases"
                )
        return forbidden

    max_tries: int = Field(default=3, ge=1, le=10)
    """Maximum number of attempts of the model before the plain template is used."""
    max_new_tokens: int = Field(default=120, ge=16, le=1000)
    temperature: float = Field(default=0, ge=0, le=2)
    """Temperature of the first attempt; each retry raises it by write.RETRY_TEMPERATURE."""


class FeaturedItem(BaseModel):
    """An item with the values that a text may state about it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    item_id: str
    row: dict[str, object]
    """Result of Item.part(policy.fields): everything that a text may state about the item."""


class TextRequest(BaseModel):
    """Subject of one text; its digest together with template, model and policy is the text's key."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    audience: str
    """Name of the audience, such as "user:ann", "segment:tents" or "item:17"."""
    items: tuple[FeaturedItem, ...] = Field(min_length=1)
    """Items ordered by id, so that the same items in a different order do not give a different text."""
    because: str | None = None
    """Basis of the reason: the title of an item the user has interacted with, or the segment's category."""

    @classmethod
    def about(
        cls, audience: str, items: Sequence[Item], because: str | None, policy: TextPolicy
    ) -> TextRequest:
        """Return the request for a text about these items, with all values that the policy permits."""
        featured = (
            FeaturedItem(item_id=item.id, row=item.part(policy.fields))
            for item in sorted(items, key=lambda item: item.id)
        )
        return cls(audience=audience, items=tuple(featured), because=because)


class Text(BaseModel):
    """A finished text."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    headline: str
    blurb: str
    reason: str
    origin: str
    """"model" if the model wrote the blurb, and "template" otherwise."""
    template_parts: tuple[str, ...] = ()
    """Parts (headline, blurb, reason) that the plain template wrote, whatever the origin."""
    num_tries: int = 0
    problems: tuple[str, ...] = ()
    """Reasons why parts of the model's answers were refused, one for each refusal."""


RULES_VERSION = 2
"""Version of the reading of answers, the checks and the plain template. It is raised when the same answers
give a different text."""

_NOT_IN_TEXTS = {"scope", "featured", "fields", "template"}
"""Settings that are left out of a text's key: the request reflects them, or the template's digest does."""


def text_key(request: TextRequest, policy: TextPolicy, template_sha256: str, model: str) -> str:
    """Return the SHA-256 of exactly what the text depends on; `model` is the model's digest or its name.

    The audience is not part of the key: two segments with the same items and the same reason share a text.
    The ids of the items are part of it, so that a text is always made from its own items.
    """
    return payload_digest(
        {
            "rules": RULES_VERSION,
            "items": [{"id": item.item_id, "row": item.row} for item in request.items],
            "fields": [name for name in policy.fields if any(name in item.row for item in request.items)],
            "because": request.because,
            "policy": policy.model_dump(mode="json", exclude=_NOT_IN_TEXTS),
            "template": template_sha256,
            "model": model,
        }
    )


def text_seed(key: str) -> int:
    """Return the seed of a text from its key, so that writing it again gives the same text.

    >>> text_seed("00000001" + 56 * "0")
    1
    """
    return int(key[:8], 16)
