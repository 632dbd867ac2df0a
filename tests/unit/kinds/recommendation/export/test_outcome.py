"""The lines that the command line prints about a plan and about a run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kinds.recommendation.export.census import ReleaseFigures
from kinds.recommendation.export.outcome import TextPlan, lines_of_figures, lines_of_stages, lines_of_texts


def plan(num_to_write: int, why: Mapping[str, int], *changes: Mapping[str, object]) -> TextPlan:
    return TextPlan(
        num_audiences=40,
        num_texts=40,
        num_to_write=num_to_write,
        why=why,
        changes=changes,
        num_tokens=num_to_write * 90,
        seconds=num_to_write * 0.9,
    )


def test_plan_shows_new_changed_unchanged_cost_and_why() -> None:
    details = {"sku-17": {"price": [99.5, 89.0]}}
    change = {"audience": "segment:tents", "why": "an item's row", "details": details}
    lines = "\n".join(lines_of_texts(plan(3, {"new audience": 1, "an item's row": 2}, change), is_plan=True))
    assert "3 to write, 37 unchanged" in lines
    assert "1 new, 2 changed" in lines
    assert "about 270 tokens, 3 s" in lines
    assert "segment:tents: an item's row: sku-17 price 99.5, now 89.0" in lines
    assert "and 2 more" in lines


def test_run_without_anything_to_write_costs_no_tokens() -> None:
    assert list(lines_of_texts(plan(0, {})))[-1].endswith("nothing changed, no tokens")


def test_stages_show_what_was_made_and_what_was_carried_over() -> None:
    ranked = {"num_users": 5000, "num_ranked": 50}
    lines = "\n".join(lines_of_stages({"fit": {"num_fitted": 0}, "rank": ranked}))
    assert "50 ranked, 4,950 carried over" in lines
    assert "carried over, since little changed" in lines


def test_release_shows_the_share_of_model_written_texts() -> None:
    figures = ReleaseFigures(
        number=4,
        num_users=5000,
        num_users_without_items=0,
        num_items=2000,
        num_items_shown=1500,
        num_places=50_000,
        num_withdrawn=0,
        reasons={"behaviour": 40_000, "content": 10_000, "popular": 0},
        texts={},
        num_texts={"model": 30, "template": 10},
    )
    lines = "\n".join(lines_of_figures(figures))
    assert "30 of 40 texts (75%) by the model" in lines
    assert "1,500 of 2,000 items (75%)" in lines
    assert "80% behaviour, 20% content" in lines


@pytest.mark.parametrize(
    "details",
    [{}, {"added": ["\x1b[2J"], "removed": []}, {"before": None, "now": "a\nb"}, {"x": {"price": [None, 2]}}],
)
def test_ids_cannot_move_the_cursor_of_a_terminal(details: Mapping[str, object]) -> None:
    change = {"audience": "user:\x1b]0;owned\x07" + "x" * 10_240, "why": "other items", "details": details}
    lines = list(lines_of_texts(plan(1, {"other items": 1}, change), is_plan=True))
    assert all(line.isprintable() and len(line) < 300 for line in lines)
