"""A shop for the demo: a catalogue of invented goods, and what invented shoppers did in five months.

    python -m examples.recommendations.shop --out DIR [--users 5000] [--items 2000] [--seed 1]

writes DIR/catalogue.csv, DIR/interactions.csv and DIR/refresh.toml. The same options give the same files.
With --next-day, the log has one more day, on which 1% of the shoppers visit the shop. With --change-price
[ID[=PRICE]], one item has another price; by default, the item that is bought most is a tenth cheaper.
Nothing else differs.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random

from examples.recommendations.goods import COLUMNS, Good, make_goods
from examples.recommendations.shoppers import Event, make_log, make_shoppers, visits_of_day

CATALOGUE, INTERACTIONS, REFRESH = "catalogue.csv", "interactions.csv", "refresh.toml"

LAST_DAY = date(2025, 6, 30)
"""Last day of the log; it is fixed, so that the same seed gives the same files on any day."""

MAX_ITEMS = 8_000
"""Maximum number of items; makers and lines allow about 14,000 combinations."""

RETURNING = 0.01
"""Share of the shoppers who visit the shop on the next day."""


def write_shop(
    folder: Path,
    *,
    num_users: int = 5_000,
    num_items: int = 2_000,
    seed: int = 1,
    next_day: bool = False,
    change_price: str | None = None,
) -> tuple[list[Good], list[Event]]:
    """Write the three files of the shop, and return the goods and events in them."""
    goods = make_goods(num_items, Random(seed), last_day=LAST_DAY)
    shoppers = make_shoppers(num_users, Random(seed + 1))
    events = make_log(shoppers, goods, Random(seed + 2), last_day=LAST_DAY)
    bought = Counter(event.item_id for event in events if event.kind == "purchase")
    if change_price is not None:
        reprice(goods, change_price or max(sorted(bought), key=bought.__getitem__))
    if next_day:
        day = LAST_DAY + timedelta(days=1)
        events += visits_of_day(shoppers, goods, day, RETURNING, Random(seed + 3))
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / CATALOGUE, COLUMNS, ([good.row[name] for name in COLUMNS] for good in goods))
    _write(
        folder / INTERACTIONS,
        ("user_id", "item_id", "event", "timestamp"),
        ((event.user_id, event.item_id, event.kind, f"{event.at:%Y-%m-%dT%H:%M:%SZ}") for event in events),
    )
    shutil.copyfile(Path(__file__).with_name(REFRESH), folder / REFRESH)
    return goods, events


def reprice(goods: Sequence[Good], change: str) -> None:
    """Change one price: "W10017=19.90", or "W10017" for a tenth less. Raises SystemExit for an unknown id."""
    item_id, _, price = change.partition("=")
    good = next((each for each in goods if each.row["id"] == item_id), None)
    if good is None:
        raise SystemExit(f"there is no item {item_id!r} in the shop")
    good.row["price"] = f"{float(price) if price else float(good.row['price']) * 0.9:.2f}"


def _write(path: Path, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main() -> None:
    """Parse the arguments, write the shop and print its size."""
    parser = argparse.ArgumentParser(prog="python -m examples.recommendations.shop", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--next-day", action="store_true", help="one more day, on which 1%% of the shoppers come"
    )
    parser.add_argument("--change-price", nargs="?", const="", metavar="ID[=PRICE]", help="one other price")
    given = parser.parse_args()
    if not 1 <= given.items <= MAX_ITEMS:
        parser.error(f"--items: the shop can think of 1 to {MAX_ITEMS} items")
    goods, events = write_shop(
        given.out,
        num_users=given.users,
        num_items=given.items,
        seed=given.seed,
        next_day=given.next_day,
        change_price=given.change_price,
    )
    print(f"{len(goods)} items and {len(events)} events in {given.out}")


if __name__ == "__main__":
    main()
