"""What the examples claim of their quality, counted in what the real model wrote."""

from __future__ import annotations

import json

from tests.acceptance.conftest import ExampleRun

MIN_BRIEFS = 24
MIN_SHARE = 20 / 24
TOLERANCE = 0.4


def test_summary_counts_enough_articles_of_the_asked_length_and_without_repetition(
    example_run: ExampleRun,
) -> None:
    quality = json.loads((example_run.out / "summary.json").read_text())["quality"]
    num_briefs = len(example_run.briefs)

    assert num_briefs >= MIN_BRIEFS
    assert quality["within_length"]["tolerance"] == TOLERANCE
    for name in ("within_length", "within_repetition"):
        assert quality[name]["of"] == num_briefs
        assert quality[name]["count"] >= MIN_SHARE * num_briefs
    both = sum(
        record["metrics"]["is_within_length"] and record["metrics"]["is_within_repetition"]
        for record in example_run.records()
    )
    assert both >= MIN_SHARE * num_briefs


def test_articles_counted_by_their_files_keep_the_asked_length(example_run: ExampleRun) -> None:
    asked = {brief["id"]: int(brief["length"]) for brief in example_run.briefs}
    errors = {}
    for record in example_run.records():
        _, _, text = (example_run.out / record["file"]).read_text().partition("\n# ")
        num_words = len(text.partition("\n")[2].split())
        errors[record["id"]] = abs(num_words - asked[record["id"]]) / asked[record["id"]]

    assert errors.keys() == asked.keys()
    assert sum(error <= TOLERANCE for error in errors.values()) >= MIN_SHARE * len(asked)


def test_articles_say_different_things(example_run: ExampleRun) -> None:
    digests = {record["sha256"] for record in example_run.records()}

    assert len(digests) == len(example_run.briefs)
