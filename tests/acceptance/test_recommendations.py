"""`pressroom run recommendations` and `pressroom refresh` as a user gives them; lists without texts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from examples.recommendations.shop import CATALOGUE, INTERACTIONS, write_shop
from tests.acceptance.running import pressroom

NUM_SHOPPERS, NUM_ITEMS = 150, 80
PLAIN = ("--model", "none", "--embedder", "none")


def shop(folder: Path, *, next_day: bool = False) -> tuple[str, ...]:
    """The options that name a small shop's files."""
    write_shop(folder, num_users=NUM_SHOPPERS, num_items=NUM_ITEMS, next_day=next_day)
    return ("--catalogue", str(folder / CATALOGUE), "--interactions", str(folder / INTERACTIONS))


def num_users(files: Path) -> int:
    """Some shoppers never came by."""
    with (files / INTERACTIONS).open(newline="") as file:
        return len({row["user_id"] for row in csv.DictReader(file)})


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "recommendations.jsonl").read_text().splitlines()]


def test_files_become_lists_and_the_same_files_again_are_told_to_be_unchanged(tmp_path: Path) -> None:
    files, out = shop(tmp_path / "shop"), tmp_path / "out"
    command: tuple[str | Path, ...] = ("run", "recommendations", *files, *PLAIN, "--out", out, "--json")
    with pressroom(tmp_path / "home", *command) as run:
        code, printed = run.finish()
    assert code == 0, run.stderr
    rows = rows_of(out)
    assert len(rows) == printed["release"]["num_users"] == num_users(tmp_path / "shop")
    assert all(item["reason"] for row in rows for item in row["items"])
    assert pq.read_table(out / "recommendations").num_rows == len(rows)
    assert rows[0]["items"][0]["title"] in (out / "index.html").read_text()
    with pressroom(tmp_path / "home", "show", f"{printed['batch_id']}/block-0") as show:
        code, told = show.finish_text()
    assert (code, "made from   catalogue" in told) == (0, True), show.stderr
    with pressroom(tmp_path / "home", *command) as again:
        code, printed = again.finish()
    assert (code, printed["unchanged"], printed["release"]["release"]) == (0, True, 1), again.stderr
    assert "Nothing has changed since release 1" in again.stderr
    assert rows_of(out) == rows


def test_bad_rows_are_told_and_the_others_go_on(tmp_path: Path) -> None:
    files, out = shop(tmp_path / "shop"), tmp_path / "out"
    catalogue, log = tmp_path / "shop" / CATALOGUE, tmp_path / "shop" / INTERACTIONS
    rows = catalogue.read_text().splitlines()
    catalogue.write_text(
        "\n".join([*rows, rows[1].replace("W10000", "W99999").replace(",EUR,", ",lots,EUR,")])
    )
    with log.open("a") as file:
        file.write("nobody,W0,view,2025-06-01T00:00:00Z\nsomebody,W10001,view,2999-01-01T00:00:00Z\n")
    with pressroom(tmp_path / "home", "run", "recommendations", *files, *PLAIN, "--out", out) as run:
        code, _ = run.finish_text()
    assert code == 0, run.stderr
    assert "unknown_item: 1" in run.stderr
    assert "in_future: 1" in run.stderr
    assert len(rows_of(out)) == num_users(tmp_path / "shop") - 2


def test_files_of_two_shops_are_refused_with_ids_of_both(tmp_path: Path) -> None:
    files = shop(tmp_path / "shop")
    log = tmp_path / "shop" / INTERACTIONS
    log.write_text(log.read_text().replace("W1", "X1"))
    with pressroom(
        tmp_path / "home", "run", "recommendations", *files, *PLAIN, "--out", tmp_path / "out"
    ) as run:
        code, _ = run.finish_text()
    assert code == 1
    assert "error [no_common_ids]" in run.stderr
    assert "W10000" in run.stderr
    assert "X10" in run.stderr


def test_a_recommender_is_planned_run_compared_and_rolled_back(tmp_path: Path) -> None:
    shop(tmp_path / "shop")
    settings = tmp_path / "shop" / "refresh.toml"
    settings.write_text('model = "none"\nembedder = "none"\n' + settings.read_text())
    home, out = tmp_path / "home", tmp_path / "out"

    def call(*arguments: str | Path) -> dict[str, Any]:
        with pressroom(home, "refresh", *arguments, "--json") as run:
            code, printed = run.finish()
        assert code == 0, run.stderr
        return printed

    assert call("create", settings)["releases"] == []
    planned = call("plan", "shop")
    assert (planned["release"], planned["stages"]["rank"]["num_users"]) == (
        None,
        num_users(tmp_path / "shop"),
    )
    first = call("run", "shop", "--out", out)
    assert first["release"]["release"] == 1
    shown = rows_of(out)
    shop(tmp_path / "shop", next_day=True)
    assert call("run", "shop", "--out", out)["release"]["release"] == 2
    differences = call("diff", "shop", "1", "2", "--out", out)
    assert differences["num_users_changed"] == sum(
        [item["item"] for item in before["items"]] != [item["item"] for item in after["items"]]
        for before, after in zip(shown, rows_of(out), strict=True)
    )
    assert (out / "diff.html").is_file()
    with pressroom(home, "refresh", "rollback", "shop") as run:
        assert run.finish_text() == (0, "release 1 of shop is published again\n"), run.stderr
    call("export", "shop", "--out", out)
    assert rows_of(out) == shown
    assert [one["is_published"] for one in call("show", "shop")["releases"]] == [False, True]
