"""Splits hold out the entries that they name, and the comparison of methods reads any log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kinds.recommendation.ranking.evaluation import (
    BASELINES,
    BLEND,
    NothingHeldOutError,
    Split,
    SplitInvalidError,
    SplitKind,
    blocks_of,
    evaluate,
    held_out,
    log_of,
    parse_split,
)
from kinds.recommendation.ranking.measures import recall
from pressroom.cli import app
from tests.unit.kinds.recommendation.ranking.samples import SETTINGS, block_of, catalogue, histories

HISTORIES = histories(num_users=40)
TIMES = {
    (user, item): 1_700_000_000 + number
    for number, (user, item) in enumerate(
        (user, item) for user in sorted(HISTORIES) for item in HISTORIES[user]
    )
}
LOG = log_of([block_of(HISTORIES, times=TIMES)])


def test_a_log_comes_back_from_the_blocks_of_its_two_parts() -> None:
    is_held_out = held_out(LOG, parse_split("random:0.25"), seed=3)
    parts = [log_of(blocks_of(LOG, mask)) for mask in (is_held_out, ~is_held_out)]
    assert is_held_out.sum() == len(LOG.users) // 4
    pairs = [set(zip(part.users.tolist(), part.items.tolist(), strict=True)) for part in parts]
    assert not pairs[0] & pairs[1]
    assert pairs[0] | pairs[1] == set(zip(LOG.users.tolist(), LOG.items.tolist(), strict=True))


def test_a_temporal_split_holds_out_the_latest() -> None:
    is_held_out = held_out(LOG, parse_split("temporal:0.2"), seed=0)
    assert LOG.times[is_held_out].min() > LOG.times[~is_held_out].max()


def test_leave_last_one_out_holds_out_the_last_of_each_user_who_has_two() -> None:
    items_of = {"ann": ["i001", "i002"], "bob": ["i003"]}
    times = {("ann", "i001"): 9, ("ann", "i002"): 5, ("bob", "i003"): 1}
    log = log_of([block_of(items_of, times=times)])
    is_held_out = held_out(log, parse_split("leave-last-one-out"), seed=0)
    assert [(log.user_ids[u], log.item_ids[i]) for u, i in zip(log.users, log.items, strict=True)][
        int(np.flatnonzero(is_held_out)[0])
    ] == ("ann", "i001")
    assert is_held_out.sum() == 1


@pytest.mark.parametrize(
    "text", ["random", "random:0", "random:1", "temporal:x", "leave-last-one-out:0.2", ""]
)
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(SplitInvalidError):
        parse_split(text)


def test_a_split_by_time_needs_times() -> None:
    with pytest.raises(SplitInvalidError, match="requires times"):
        held_out(log_of([block_of(HISTORIES)]), Split(SplitKind.TEMPORAL, 0.2), 0)


def test_figures_are_those_of_the_lists() -> None:
    split = parse_split("random:0.25")
    found = evaluate(LOG, catalogue(), split, seed=1, k=5, settings=SETTINGS)
    is_held_out = held_out(LOG, split, 1)
    ids = sorted(item.id for item in catalogue())
    users = np.unique(LOG.users[is_held_out])
    held_out_items = [
        {LOG.item_ids[item] for item in LOG.items[is_held_out & (LOG.users == user)]} for user in users
    ]
    hits = np.array(
        [
            [place >= 0 and ids[place] in items for place in row]
            for items, row in zip(held_out_items, found.lists[BLEND], strict=True)
        ]
    )
    by_hand = recall(hits, np.array([len(items) for items in held_out_items])).mean()
    assert found.methods[BLEND].per_user["recall"].mean == pytest.approx(by_hand)
    assert found.methods[BLEND].per_user["ndcg"].mean > found.methods["popularity"].per_user["ndcg"].mean


def test_what_is_sold_out_today_is_still_measured() -> None:
    split = parse_split("random:0.25")
    sold_out = [item.model_copy(update={"available": False}) for item in catalogue()]
    now, then = (
        evaluate(LOG, items, split, seed=1, k=5, settings=SETTINGS) for items in (sold_out, catalogue())
    )
    assert now.as_json() == then.as_json()
    assert now.methods[BLEND].per_user["recall"].mean > 0


def test_nothing_that_is_known_is_on_a_list() -> None:
    split = parse_split("random:0.25")
    found = evaluate(LOG, None, split, seed=1, k=5, settings=SETTINGS)
    is_held_out = held_out(LOG, split, 1)
    known = set(zip(LOG.users[~is_held_out].tolist(), LOG.items[~is_held_out].tolist(), strict=True))
    users = np.unique(LOG.users[is_held_out]).tolist()
    assert set(BASELINES) < set(found.lists)
    for lists in found.lists.values():
        for user, row in zip(users, lists.tolist(), strict=True):
            assert not {(user, item) for item in row} & known


def test_a_log_of_one_entry_is_told() -> None:
    with pytest.raises(NothingHeldOutError):
        evaluate(
            log_of(
                [block_of({"ann": ["i001"]})],
            ),
            None,
            parse_split("random:0.2"),
            seed=0,
            k=5,
            settings=SETTINGS,
        )


def test_the_command_reads_a_log_without_a_catalogue(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    lines = [f"{user},{item},{1_700_000_000 + at}" for at, (user, item) in enumerate(TIMES)]
    log.write_text("\n".join(["user_id,item_id,timestamp", *lines, "ann,,5"]) + "\n")
    command = ["evaluate", "recommendations", "--interactions", str(log), "--k", "5"]
    done = CliRunner().invoke(app, [*command, "--split", "temporal:0.2", "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["num_held_out"] == int(len(lines) * 0.2)
    assert printed["noticed"]["item_missing"] == 1
    assert set(printed["blend_minus"]) == set(BASELINES)
    table = CliRunner().invoke(app, command)
    assert table.exit_code == 0
    assert "the blend minus" in table.stdout


def test_the_command_refuses_a_split_that_does_not_exist(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user,item\nann,a\n")
    done = CliRunner().invoke(
        app, ["evaluate", "recommendations", "--interactions", str(log), "--split", "half"]
    )
    assert done.exit_code == 2
