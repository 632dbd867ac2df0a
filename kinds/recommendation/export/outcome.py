"""Writes the results of a run into the output folder and prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

import typer
from sqlalchemy import Engine

from db.kept import cost_of_kept
from db.stages import stage_outputs
from jobs.outputs import OutputT
from jobs.provenance import StatementAlteredError
from jobs.shown import duration, json_text, plural, printable
from kinds.recommendation.export.census import ReleaseFigures
from kinds.recommendation.export.files import export_release
from kinds.recommendation.export.page import cut, percent
from kinds.recommendation.outputs import (
    CollectOutput,
    EmbedOutput,
    FitOutput,
    RankOutput,
    TextPlanOutput,
    Why,
)
from kinds.recommendation.recommender import KIND, Release
from kinds.recommendation.recommenders import open_release
from kinds.recommendation.store import recommenders, releases
from kinds.recommendation.texts.text import MODEL
from pressroom.console import EXIT_FAILURE, print_json, print_line, say
from pressroom.export import export_errors
from pressroom.output import replace_text
from pressroom.results import ArtifactAlteredError, OnAltered
from pressroom.show import say_altered
from pressroom.summary import Altered, Summary
from storage.store import Store

SUMMARY = "summary.json"

MAX_CHANGES = 10
"""Maximum number of printed changes; `--json` and the artifact of the stage `plan_texts` have more."""

TOKENS_PER_TEXT = 140.0
"""Tokens per text that are assumed as long as no text has been written; measured by benchmarks/text_facts.py
with the bundled model."""
TOKENS_PER_SECOND = 100.0
"""Rate that is assumed as long as no text has been written; measured in the same way, on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a batch of a recommender."""

    release: Release | None
    """Release that the batch made; None for a plan or if a stage failed."""
    figures: ReleaseFigures | None
    texts: TextPlan | None
    stages: Mapping[str, Mapping[str, int]]
    """Figures of the stages before the texts, by stage."""

    def as_json(self) -> dict[str, object]:
        """Return the result as JSON with stable names; see docs/recommendations.md."""
        return {
            "release": None if self.figures is None else self.figures.as_json(),
            "texts": None if self.texts is None else self.texts.as_json(),
            "stages": {name: dict(figures) for name, figures in self.stages.items()},
        }

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the result; exit with a failure if there is no release or if something is missing from it."""
        say_altered(summary.altered)
        if json:
            print_json({**summary.as_json(), **self.as_json()})
        else:
            for line in self._lines(out):
                print_line(line)
        counts = summary.report.counts
        if self.release is not None and counts.failed:
            say("Some texts failed. Repeat the command to write only those.")
        if self.release is None or counts.failed or counts.open or summary.altered:
            raise typer.Exit(EXIT_FAILURE)

    def _lines(self, out: Path) -> Iterator[str]:
        yield from lines_of_stages(self.stages)
        if self.texts is not None:
            yield from lines_of_texts(self.texts, is_plan=self.release is None)
        if self.figures is not None:
            yield from lines_of_figures(self.figures)
            yield f"The page is {out / 'index.html'}, and the rows are in {out / 'recommendations.jsonl'}."


def export_outcome(database: Engine, store: Store, summary: Summary, out: Path) -> Outcome:
    """Write the batch's release, if there is one, and summary.json.

    Results that differ from what was committed are left out and listed in `summary.altered`.
    Raises DiskFullError, ConfigurationError (`output_unwritable`) and StoreError.
    """
    batch_id = summary.batch_id
    release = releases.release_of_batch(database, batch_id)
    figures = None
    if release is not None:
        try:
            figures = export_to_folder(database, store, release, out, summary.leave_out)
        except (ArtifactAlteredError, StatementAlteredError) as error:
            what = f"release {release.number}"
            summary.leave_out(Altered(release.id, what, error.code, str(error)))
    outcome = Outcome(
        release=release,
        figures=figures,
        texts=text_plan(database, batch_id),
        stages=_stages(database, batch_id),
    )
    with export_errors(out, batch_id):
        result = {**summary.as_json(), **outcome.as_json()}
        replace_text(out / SUMMARY, json_text(result, indent=2) + "\n")
    return outcome


def export_to_folder(
    database: Engine, store: Store, release: Release, out: Path, on_altered: OnAltered | None = None
) -> ReleaseFigures:
    """Write a release into the folder. Raises the errors of `open_release` and `export_errors`."""
    with export_errors(out, release.batch_id):
        name = recommenders.get_recommender(database, release.recommender_id).name
        return export_release(open_release(database, store, release, on_altered), out, title=name)


def _stages(database: Engine, batch_id: UUID) -> dict[str, dict[str, int]]:
    stages: dict[str, dict[str, int]] = {}
    if collected := _outputs(database, batch_id, "collect", CollectOutput):
        stages["collect"] = {
            "num_rejected": sum(output.num_rejected for output in collected),
            "num_withdrawn": sum(output.num_withdrawn for output in collected),
        }
    if embedded := _outputs(database, batch_id, "embed", EmbedOutput):
        stages["embed"] = {
            "num_embedded": sum(output.num_embedded for output in embedded),
            "num_known": sum(output.num_known for output in embedded),
        }
    if fitted := _outputs(database, batch_id, "fit", FitOutput):
        stages["fit"] = {"num_fitted": sum(not output.is_carried for output in fitted)}
    if ranked := _outputs(database, batch_id, "rank", RankOutput):
        stages["rank"] = {
            "num_users": sum(output.num_users for output in ranked),
            "num_ranked": sum(output.num_ranked for output in ranked),
        }
    return stages


def _outputs(database: Engine, batch_id: UUID, stage: str, output_type: type[OutputT]) -> list[OutputT]:
    return [output for _, output in stage_outputs(database, batch_id, stage, output_type)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPlan:
    """The texts that a run writes or would write."""

    num_audiences: int
    num_texts: int
    """Number of distinct texts; audiences with the same items share a text."""
    num_to_write: int
    why: Mapping[str, int]
    """Number of audiences with a new or changed text, by reason."""
    changes: tuple[Mapping[str, object], ...]
    """The first of the changes that `why` counts."""
    num_tokens: int
    """Number of tokens to generate, estimated from the latest texts."""
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return the plan as JSON with stable names."""
        return {
            "num_audiences": self.num_audiences,
            "num_texts": self.num_texts,
            "num_to_write": self.num_to_write,
            "num_unchanged": self.num_texts - self.num_to_write,
            "why": dict(self.why),
            "changes": list(self.changes),
            "estimated_tokens": self.num_tokens,
            "estimated_seconds": round(self.seconds, 1),
        }


def text_plan(database: Engine, batch_id: UUID) -> TextPlan | None:
    """Return the plan from the stage `plan_texts` of a batch; None if the stage has no output yet."""
    plans = [output for _, output in stage_outputs(database, batch_id, "plan_texts", TextPlanOutput)]
    if not plans:
        return None
    why: Counter[str] = Counter()
    for plan in plans:
        why.update(plan.why)
    num_to_write = sum(plan.num_to_write for plan in plans)
    cost = cost_of_kept(database, KIND)
    num_tokens = num_to_write * (cost.num_new_tokens if cost else TOKENS_PER_TEXT)
    rate = cost.tokens_per_second if cost and cost.tokens_per_second else TOKENS_PER_SECOND
    return TextPlan(
        num_audiences=sum(plan.num_audiences for plan in plans),
        num_texts=sum(plan.num_texts for plan in plans),
        num_to_write=num_to_write,
        why=dict(why),
        changes=tuple(asdict(change) for plan in plans for change in plan.changes),
        num_tokens=round(num_tokens),
        seconds=num_tokens / rate,
    )


def lines_of_stages(stages: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield lines about the stages before the texts, from the figures of each stage."""
    collected, embedded, ranked = (stages.get(name, {}) for name in ("collect", "embed", "rank"))
    if collected.get("num_rejected"):
        yield _line("rejected", f"{plural(collected['num_rejected'], 'row', 'rows')} of the files")
    if collected.get("num_withdrawn"):
        withdrawn = plural(collected["num_withdrawn"], "item was", "items were")
        yield _line("withdrawn", f"{withdrawn} removed from the published lists")
    if embedded:
        new, known = embedded.get("num_embedded", 0), embedded.get("num_known", 0)
        yield _line("embedding", f"{new:,} new item texts, {known:,} embedded before")
    if "fit" in stages:
        yield _line(
            "model", "fitted" if stages["fit"].get("num_fitted") else "carried over, since little changed"
        )
    if ranked:
        num_users, num_ranked = ranked.get("num_users", 0), ranked.get("num_ranked", 0)
        counts = f"{num_ranked:,} ranked, {num_users - num_ranked:,} carried over"
        yield _line("lists", f"{num_users:,} users: {counts}")


def lines_of_texts(plan: TextPlan, *, is_plan: bool = False) -> Iterator[str]:
    """Yield lines about new, changed and unchanged texts and the reasons; for a plan, also about the cost."""
    if not plan.num_audiences:
        yield _line("texts", "none requested")
        return
    yield _line(
        "texts",
        f"{plan.num_texts:,} for {plan.num_audiences:,} audiences: {plan.num_to_write:,} "
        f"{'to write' if is_plan else 'written'}, {plan.num_texts - plan.num_to_write:,} unchanged",
    )
    if not plan.num_to_write:
        yield _line("cost", "nothing changed, no tokens")
        return
    new = plan.why.get(Why.NEW, 0)
    reasons = (f"{number:,} {short(reason)}" for reason, number in sorted(plan.why.items()) if number)
    yield _line("why", f"{new:,} new, {sum(plan.why.values()) - new:,} changed ({', '.join(reasons)})")
    if is_plan:
        yield from _lines_of_changes(plan)
        yield _line("cost", f"about {plan.num_tokens:,} tokens, {duration(plan.seconds)}")


def lines_of_figures(figures: ReleaseFigures) -> Iterator[str]:
    """Yield lines about the figures of a release."""
    empty = f", {figures.num_users_without_items:,} of them empty" if figures.num_users_without_items else ""
    yield _line("release", f"number {figures.number}: {figures.num_users:,} lists{empty}")
    shown = f"{figures.num_items_shown:,} of {figures.num_items:,} items ({percent(figures.coverage)})"
    yield _line("coverage", f"{shown} are on a list")
    if figures.num_places:
        shares = (f"{percent(n / figures.num_places)} {name}" for name, n in figures.reasons.items() if n)
        yield _line("reasons", ", ".join(shares))
    if figures.num_texts:
        num_model, num_all = figures.num_texts.get(MODEL, 0), sum(figures.num_texts.values())
        yield _line(
            "written",
            f"{num_model:,} of {num_all:,} texts ({percent(figures.model_share)}) by the model, "
            "the others by plain templates",
        )


def short(text: object, limit: int = 60) -> str:
    r"""Return a text shortened for a line, with control characters escaped.

    >>> short("tent\x1b[2J\n"), short("a" * 10, 5)
    ('tent\\u001b[2J\\u000a', 'aaaa…')
    """
    return cut(printable(str(text)), limit)


def _lines_of_changes(plan: TextPlan) -> Iterator[str]:
    for change in plan.changes[:MAX_CHANGES]:
        why = f"{short(change['why'])}{_details(change.get('details'))}"
        yield f"  {short(change['audience'])}: {why}"
    num_more = sum(plan.why.values()) - min(len(plan.changes), MAX_CHANGES)
    if num_more > 0:
        yield f"  and {num_more:,} more"


def _details(details: object) -> str:
    """Return a change in a few words, such as ": sku-17 price 99.5, now 89.0"; empty without details."""
    if not isinstance(details, Mapping) or not details:
        return ""
    if {"added", "removed"} <= details.keys():
        signs = [f"+{short(item_id, 30)}" for item_id in details["added"]]
        signs += [f"-{short(item_id, 30)}" for item_id in details["removed"]]
        return f": {' '.join(signs)}"
    if {"before", "now"} <= details.keys():
        return f": {short(details['before'])}, now {short(details['now'])}"
    fields = [
        f"{short(item_id, 30)} {short(name, 20)} {short(before, 30)}, now {short(now, 30)}"
        for item_id, changed in details.items()
        if isinstance(changed, Mapping)
        for name, (before, now) in changed.items()
    ]
    return f": {'; '.join(fields[:3])}{' ...' if len(fields) > 3 else ''}" if fields else ""


def _line(label: str, text: str) -> str:
    return f"{label:<11} {text}"
