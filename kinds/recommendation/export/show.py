"""Lines that describe the results of a run or a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jobs.shown import printable
from kinds.recommendation.changes import Why
from kinds.recommendation.export.census import MODEL, ReleaseFigures
from kinds.recommendation.export.page import cut, percent
from kinds.recommendation.export.text_plan import TextPlan

MAX_CHANGES = 10
"""Changes that are listed individually; `--json` and the artifact of the stage `brief` have more."""

NOTHING_CHANGED = "nothing changed"


def lines_of_stages(stages: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield lines about the stages before the texts, from the figures of each stage."""
    collected, embedded, ranked = (stages.get(name, {}) for name in ("collect", "embed", "rank"))
    if collected.get("num_rejected"):
        yield _line("refused", f"{collected['num_rejected']:,} rows of the files")
    if collected.get("num_withdrawn"):
        yield _line("withdrawn", f"{collected['num_withdrawn']:,} items left the standing lists at once")
    if embedded:
        new, known = embedded.get("num_embedded", 0), embedded.get("num_known", 0)
        yield _line("embedding", f"{new:,} item texts new, {known:,} known")
    if "fit" in stages:
        yield _line("model", "fitted" if stages["fit"].get("num_fitted") else "carried over: little changed")
    if ranked:
        num_users, num_ranked = ranked.get("num_users", 0), ranked.get("num_ranked", 0)
        told = f"{num_users:,} users: {num_ranked:,} ranked, {num_users - num_ranked:,} carried over"
        yield _line("lists", told)


def lines_of_texts(plan: TextPlan, *, is_plan: bool = False) -> Iterator[str]:
    """Yield lines about new, changed and unchanged texts and the reasons; for a plan, also about the cost."""
    if not plan.num_audiences:
        yield _line("texts", "none asked for")
        return
    yield _line(
        "texts",
        f"{plan.num_texts:,} for {plan.num_audiences:,} audiences: {plan.num_to_write:,} "
        f"{'to write' if is_plan else 'written'}, {plan.num_texts - plan.num_to_write:,} unchanged",
    )
    if not plan.num_to_write:
        yield _line("cost", f"{NOTHING_CHANGED}: no token")
        return
    new = plan.why.get(Why.NEW, 0)
    told = (f"{number:,} {short(reason)}" for reason, number in sorted(plan.why.items()) if number)
    yield _line("why", f"{new:,} new, {sum(plan.why.values()) - new:,} changed ({', '.join(told)})")
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
            f"{num_model:,} of {num_all:,} texts ({percent(figures.model_share)}) by the model, the others "
            "plain templates",
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
    """Describe a change in a few words: "sku-17 price 99.5, now 89.0"."""
    if not isinstance(details, Mapping) or not details:
        return ""
    if {"added", "removed"} <= details.keys():
        signs = [f"+{short(one, 30)}" for one in details["added"]]
        signs += [f"-{short(one, 30)}" for one in details["removed"]]
        return f": {' '.join(signs)}"
    if {"before", "now"} <= details.keys():
        return f": {short(details['before'])}, now {short(details['now'])}"
    told = [
        f"{short(item_id, 30)} {short(name, 20)} {short(before, 30)}, now {short(now, 30)}"
        for item_id, fields in details.items()
        if isinstance(fields, Mapping)
        for name, (before, now) in fields.items()
    ]
    return f": {'; '.join(told[:3])}{' ...' if len(told) > 3 else ''}" if told else ""


def duration(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> duration(8.2), duration(95), duration(9000)
    ('8 s', '1 min 35 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _line(label: str, text: str) -> str:
    return f"{label:<11} {text}"
