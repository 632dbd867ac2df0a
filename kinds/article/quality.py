"""The metrics of articles, and how many articles meet the requirements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from jobs.text.prose import LENGTH_TOLERANCE, MAX_REPETITION
from pressroom.console import print_json, print_line
from pressroom.export import INDEX
from pressroom.show import print_labelled, print_status, say_altered
from pressroom.summary import Summary


class ArticleMetrics(BaseModel):
    """The metrics of an article that are shown to readers; the kind records more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    title: str
    requested_words: int
    num_words: int
    is_within_length: bool
    repetition: float
    is_within_repetition: bool
    requested_language: str
    detected_language: str | None
    """Detected language; None if the text is too short or too mixed to tell."""
    flags: tuple[str, ...] = ()

    @property
    def is_requested_language(self) -> bool:
        """Return whether the language is the requested one, ignoring region and script: en matches en-GB."""
        return self.detected_language == self.requested_language.partition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The number of all articles, of those with the requested length, and of those within the bound on
    repetition."""

    num_articles: int = 0
    num_within_length: int = 0
    num_within_repetition: int = 0

    def with_article(self, metrics: ArticleMetrics) -> Quality:
        """Return the figures with one more article included."""
        return replace(
            self,
            num_articles=self.num_articles + 1,
            num_within_length=self.num_within_length + metrics.is_within_length,
            num_within_repetition=self.num_within_repetition + metrics.is_within_repetition,
        )

    def as_json(self) -> Mapping[str, Mapping[str, object]]:
        """Return the figures as JSON; the README documents the names, which are stable."""
        of = self.num_articles
        return {
            "within_length": {"count": self.num_within_length, "of": of, "tolerance": LENGTH_TOLERANCE},
            "within_repetition": {"count": self.num_within_repetition, "of": of, "bound": MAX_REPETITION},
        }

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the outcome of a run or an export: see `pressroom.export.ExportReport`."""
        say_altered(summary.altered)
        if json:
            print_json({**summary.as_json(), "quality": self.as_json(), "out": str(out)})
            return
        print_status(summary.report, is_live=False)
        of = self.num_articles
        print_labelled(
            "length",
            f"{self.num_within_length} of {of} within {LENGTH_TOLERANCE:.0%} of the requested length",
        )
        print_labelled(
            "repetition",
            f"{self.num_within_repetition} of {of} repeat at most {MAX_REPETITION:.0%} of their "
            "four-word sequences",
        )
        print_line(f"results: {out / INDEX}")
