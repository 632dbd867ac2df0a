"""What was measured of articles, and how many of them are as they were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from jobs.metrics.length import LENGTH_TOLERANCE
from jobs.metrics.repetition import MAX_REPETITION
from pressroom.console import print_json, print_line
from pressroom.export import INDEX
from pressroom.show import print_labelled, print_status, say_altered
from pressroom.summary import Summary


class ArticleMetrics(BaseModel):
    """The metrics of an article that a reader is shown; the kind records more of them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    title: str
    asked_words: int
    num_words: int
    is_within_length: bool
    repetition: float
    is_within_repetition: bool
    asked_language: str
    detected_language: str | None
    """None where the text is too short or too mixed to tell."""
    flags: tuple[str, ...] = ()

    @property
    def is_asked_language(self) -> bool:
        """Regions and scripts are not told apart: en-GB is answered by en."""
        return self.detected_language == self.asked_language.partition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How many articles keep the asked length and the bound of repetition."""

    num_articles: int = 0
    num_within_length: int = 0
    num_within_repetition: int = 0

    def with_article(self, metrics: ArticleMetrics) -> Quality:
        """The figures with one article more."""
        return replace(
            self,
            num_articles=self.num_articles + 1,
            num_within_length=self.num_within_length + metrics.is_within_length,
            num_within_repetition=self.num_within_repetition + metrics.is_within_repetition,
        )

    def as_json(self) -> Mapping[str, Mapping[str, object]]:
        """Stable names; see the README."""
        of = self.num_articles
        return {
            "within_length": {"count": self.num_within_length, "of": of, "tolerance": LENGTH_TOLERANCE},
            "within_repetition": {"count": self.num_within_repetition, "of": of, "bound": MAX_REPETITION},
        }

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print what a run or an export came to: see `pressroom.exporters.ExportReport`."""
        say_altered(summary.altered)
        if json:
            print_json({**summary.as_json(), "quality": self.as_json(), "out": str(out)})
            return
        print_status(summary.report, is_live=False)
        of = self.num_articles
        print_labelled(
            "length", f"{self.num_within_length} of {of} within {LENGTH_TOLERANCE:.0%} of the asked words"
        )
        print_labelled(
            "repetition",
            f"{self.num_within_repetition} of {of} repeat at most {MAX_REPETITION:.0%} of their "
            "four-word sequences",
        )
        print_line(f"results: {out / INDEX}")
