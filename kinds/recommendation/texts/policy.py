"""How copy is written: for whom, about what, under which template; as data of a refresh."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from kinds.recommendation.texts.words import NEEDED

MAX_HEADLINE_CHARACTERS = 80
MAX_BLURB_CHARACTERS = 300
MAX_REASON_CHARACTERS = 160


class CopyScope(StrEnum):
    """Who shares a text. A million users need not mean a million texts."""

    USER = "user"
    """About the first items of each user's list."""
    SEGMENT = "segment"
    """About the items that head the lists of a segment's users."""
    ITEM = "item"
    """About each item that is on any list."""
    NONE = "none"


class CopyPolicy(BaseModel):
    """The part of a refresh's settings that texts depend on."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    scope: CopyScope = CopyScope.SEGMENT
    featured: int = Field(default=3, ge=1, le=5)
    """Items that a text for a user or a segment is about."""
    fields: tuple[str, ...] = ("title", "category", "brand", "material", "colour", "price", "currency")
    """Fields and attributes of an item's row that the text may use; no other change of the row matters."""
    template: str = "recommendation-1"
    """Name of the prompt template, with its version."""
    tone: str = Field(default="friendly", max_length=100)
    forbidden: tuple[str, ...] = ()
    """Words that no text may have."""

    @field_validator("forbidden")
    @classmethod
    def _sentences_stay_possible(cls, forbidden: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in forbidden:
            if not phrase.strip() or all(word in NEEDED for word in phrase.lower().split()):
                raise ValueError(f"{phrase!r} is what the plainest text is made of: forbid others")
        return forbidden

    max_tries: int = Field(default=3, ge=1, le=10)
    """Answers of the model before the plain template is taken."""
    max_new_tokens: int = Field(default=120, ge=16, le=1000)
    temperature: float = Field(default=0, ge=0, le=2)
    """Of the first try; each further one is bolder, see copy_write."""


class Featured(BaseModel):
    """An item as a text sees it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    item_id: str
    row: dict[str, object]
    """Item.part(policy.fields): all that may be said of it."""


class Brief(BaseModel):
    """What one text is to be about; its digest with template, model and policy is the key of the text."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    audience: str
    """"user:ann", "segment:tents" or "item:17"."""
    items: tuple[Featured, ...] = Field(min_length=1)
    """Ordered by id: another order of the same items is no other text."""
    because: str | None = None
    """What the reason goes by: the title of an item they had to do with, or the segment's category."""


class CopyText(BaseModel):
    """The finished words."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    headline: str
    blurb: str
    reason: str
    origin: str
    """"model" where the blurb is the model's, else "template"."""
    template_parts: tuple[str, ...] = ()
    """Which of headline, blurb and reason are by the plain template, whatever the origin."""
    num_tries: int = 0
    problems: tuple[str, ...] = ()
    """Why answers of the model were not taken, one for each."""
