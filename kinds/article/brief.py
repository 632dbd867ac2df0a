"""The brief of one article, and the settings that a batch has for all of its articles."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from jobs.prompt_template import PromptTemplate, load_template
from jobs.text.language import LanguageTagError, language_name, normal_tag

MIN_WORDS, MAX_WORDS = 20, 1500
DEFAULT_WORDS = 200
DEFAULT_LANGUAGE = "en"


def _tag(text: str) -> str:
    try:
        return normal_tag(text)
    except LanguageTagError as error:
        raise PydanticCustomError("language_tag", "{reason}", {"reason": str(error)}) from error


def _one_line(text: str) -> str:
    return " ".join(text.split())


Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300), AfterValidator(_one_line)
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8000)]
Keyword = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]


class ArticleBrief(BaseModel):
    """One line of an article file. Intake shows the descriptions as advice when a field is wrong."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        frozen=True,
        json_schema_extra={"anyOf": [{"required": ["title"]}, {"required": ["topic"]}]},
    )

    title: Line | None = Field(default=None, description="one line of at most 300 characters")
    topic: Line | None = Field(default=None, description="one line of at most 300 characters")
    keywords: Annotated[tuple[Keyword, ...], Field(max_length=20)] = Field(
        default=(), description="at most 20, separated by semicolons in CSV, a list in JSON"
    )
    audience: Line | None = Field(default=None, description="who will read it")
    tone: Line | None = Field(default=None, description="a few words, such as 'warm and practical'")
    language: Annotated[str, AfterValidator(_tag)] = Field(
        default=DEFAULT_LANGUAGE, description="a BCP 47 tag, such as en or pt-BR"
    )
    length: int = Field(
        default=DEFAULT_WORDS, ge=MIN_WORDS, le=MAX_WORDS, description=f"words, {MIN_WORDS} to {MAX_WORDS}"
    )
    outline: Text | None = Field(default=None, description="points, separated by semicolons or line ends")
    facts: Text | None = Field(default=None, description="sentences that the article must agree with")

    @model_validator(mode="after")
    def _title_or_topic(self) -> Self:
        if self.title is None and self.topic is None:
            raise PydanticCustomError("missing_column", "neither title nor topic is given")
        return self

    @property
    def subject(self) -> str:
        """Return the subject of the article: its topic, or else its title."""
        return self.topic or self.title or ""

    @property
    def points(self) -> tuple[str, ...]:
        """Return the points of the outline."""
        parts = (self.outline or "").replace("\n", ";").split(";")
        return tuple(point for part in parts if (point := part.strip(" \t-*•.")))

    def texts(self) -> tuple[str, ...]:
        """Return all user-written texts of the brief that the prompt quotes."""
        fields = (self.title, self.topic, *self.keywords, self.audience, self.tone, self.outline, self.facts)
        return tuple(text for text in fields if text)


class ArticleSettings(BaseModel):
    """Sampling and template of a batch. The defaults were chosen by reading results: docs/experiments.md."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    temperature: float = Field(default=0.3, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, le=1_000_000)
    repetition_penalty: float = Field(default=1.1, ge=1, le=2)
    template: str = "article"
    template_version: str = "1"
    template_source: str | None = Field(default=None, max_length=20_000)
    """Source of a custom template with the name and version above; None for Pressroom's own template."""

    @model_validator(mode="after")
    def _renders(self) -> Self:
        """Render every block once, so that an unusable template is refused together with the batch."""
        _check_template(self.template, self.template_version, self.template_source)
        return self

    def load(self) -> PromptTemplate:
        """Return the template to render. Raises TemplateError."""
        return _load(self.template, self.template_version, self.template_source)


_MAX_TEMPLATES = 16
"""Maximum number of templates that a process caches. The settings are validated again for each job and each
line of input, and compiling and testing a template takes as long as processing twenty lines."""


@lru_cache(maxsize=_MAX_TEMPLATES)
def _load(name: str, version: str, source: str | None) -> PromptTemplate:
    if source is not None:
        return PromptTemplate.compile(name, version, source)
    return load_template(__package__, name, version)


@lru_cache(maxsize=_MAX_TEMPLATES)
def _check_template(name: str, version: str, source: str | None) -> None:
    """Raise TemplateError if a block of the template cannot be rendered."""
    template = _load(name, version, source)
    template.render("system", {})
    for block, turn in (("first", 0), ("next", 1)):
        template.render(block, template_variables(_SAMPLE, turn=turn, point="a point"))


def template_variables(brief: ArticleBrief, *, turn: int, point: str | None) -> dict[str, object]:
    """Return the variables of the blocks `first` and `next` of an article template; absent values are None.

    `turn` is the number of earlier paragraphs; `point` is the point of the outline, or the keyword, that the
    next paragraph is about.
    """
    is_default_language = brief.language.partition("-")[0] == DEFAULT_LANGUAGE
    return {
        "topic": brief.subject,
        "audience": brief.audience,
        "tone": brief.tone,
        "facts": brief.facts,
        # Without an outline the keywords are used as points, so they are not listed as well.
        "keywords": brief.keywords if brief.points else (),
        "language": None if is_default_language else language_name(brief.language),
        "point": point,
        "turn": turn,
    }


_SAMPLE = ArticleBrief(
    title="A title", keywords=("one", "two"), outline="a point", facts="A fact.", language="fr"
)
