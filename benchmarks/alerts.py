"""Measures false alarms, recall and delay of the alert rules by simulation.

    python -m benchmarks.alerts [--window hour|day|week] [--part MIX|turns] [--quick]

Quiet feeds of several characters show how many alarms a monitor of 36 entities would raise in a week in which
nothing happens, compared with its budget. Feeds with a planted turn show how many turns are detected by the
rule for that kind of turn, and with what delay. The command prints tables on stderr and one JSON object on
stdout.
Without --quick it also writes benchmarks/results/alerts.json, or alerts_hour.json or alerts_week.json for
those windows; with --part, it measures only the rows of that part again. It runs for some minutes on one
core. For windows of an hour, whose arrays are large, set MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ to
2000000000.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from statistics import median

import numpy as np

from benchmarks.alert_feeds import LENGTH, QUIET, TURNS, Character, Turn, feed
from benchmarks.machine import RESULTS, machine_facts, write_result
from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.detection import firings, thresholds
from kinds.sentiment.series.policy import AlertRule, Policy
from kinds.sentiment.series.replay import GRACE
from kinds.sentiment.series.time_windows import WindowSize
from kinds.sentiment.series.verdicts import SCALES

NUM_ENTITIES = 36
TURNS_PART = "turns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Parameters of the simulation for windows of one size."""

    num_days: int
    warm_up_days: int
    """Days of history that every rule needs before it can raise an alert."""
    num_monitors: int
    turn_day: int
    mixes: Mapping[str, tuple[float, float]]
    """Lowest and highest number of documents per day by mix; entities are spread evenly on a log scale."""
    per_day: tuple[float, ...]
    """Numbers of documents per day for which feeds with a turn are simulated."""
    num_feeds: int
    """Number of feeds for each turn and volume."""


STUDIES = {
    WindowSize.HOUR: Study(
        num_days=84,
        warm_up_days=14,
        num_monitors=2,
        turn_day=50,
        mixes={"busy": (4.0, 15.0), "wire": (24.0, 240.0)},
        per_day=(50.0,),
        num_feeds=20,
    ),
    WindowSize.DAY: Study(
        num_days=182,
        warm_up_days=28,
        num_monitors=10,
        turn_day=100,
        mixes={"mixed": (0.15, 12.0), "busy": (4.0, 15.0)},
        per_day=(0.7, 1.5, 4.0, 10.0),
        num_feeds=50,
    ),
    WindowSize.WEEK: Study(
        num_days=7 * 130,
        warm_up_days=7 * 8,
        num_monitors=10,
        turn_day=7 * 60,
        mixes={"mixed": (0.15, 12.0), "busy": (4.0, 15.0)},
        per_day=(0.7, 1.5, 4.0, 10.0),
        num_feeds=50,
    ),
}
STRETCH = 256
"""Number of windows evaluated at a time; the arrays of thousands of hours would not fit in the cache."""
DRIFT = Character(name="drift", moods=0.4, mood_memory=0.95)
"""A mood that drifts for weeks. Its alarms are reported but not used for calibration, because one can hardly
claim that nothing happens in such weeks."""
TURNED = Character(name="turned", dispersion=1.5, weekend=0.3, bursts=0.3, moods=0.2)
SEED = 11


def main() -> None:
    """Run the simulations, print the results and store them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the feeds; nothing is written")
    parser.add_argument("--window", type=WindowSize, choices=list(WindowSize), default=WindowSize.DAY)
    parser.add_argument("--part", help="quiet feeds of these volumes alone, or the turns; other rows stay")
    parser.add_argument("--seed", type=int, default=SEED, help="another one than the default writes nothing")
    given = parser.parse_args()
    size, study, quick = given.window, STUDIES[given.window], given.quick
    policy = Policy() if size is WindowSize.DAY else Policy(windows=(size,), alert_window=size)
    num_monitors = 1 if quick else study.num_monitors
    quiet = [
        _quiet(policy, study, mix, character, num_monitors, given.seed)
        for mix in study.mixes
        if given.part in (None, mix)
        for character in (*QUIET, DRIFT)
    ]
    planted = [
        _planted(policy, study, turn, per_day, study.num_feeds // (10 if quick else 1), given.seed)
        for turn in (TURNS if given.part in (None, TURNS_PART) else ())
        for per_day in study.per_day
    ]
    name = "alerts" if size is WindowSize.DAY else f"alerts_{size}"
    path = RESULTS / f"{name}.json"
    kept = json.loads(path.read_text()) if given.part and path.exists() else {}
    result: dict[str, object] = {
        "machine": machine_facts(),
        "policy": policy.model_dump(mode="json"),
        "num_entities": NUM_ENTITIES,
        "thresholds": {str(rule): value for rule, value in thresholds(policy, NUM_ENTITIES).items()},
        "characters": [asdict(character) for character in (*QUIET, DRIFT, TURNED)],
        "quiet": [row for row in kept.get("quiet", ()) if row["mix"] != given.part] + quiet,
        "planted": planted or kept.get("planted", []),
    }
    print(json.dumps(result, indent=2))
    if not quick and given.seed == SEED:
        print(f"written to {write_result(name, result)}", file=sys.stderr)


def _alert_days(counts: Counts, policy: Policy) -> Iterator[tuple[AlertRule, float]]:
    """Yield the rule of each alert and the day on which its window begins, counted from the first day."""
    padding = SCALES[policy.alert_window].past
    length = LENGTH[policy.alert_window] / timedelta(days=1)
    # A stretch starts early enough to know which alerts of the previous one still suppress others.
    overlap = math.ceil(policy.cool_down_hours / (length * 24))
    first = max(padding, counts.known_from)
    for begin in range(first, len(counts), STRETCH):
        at = np.arange(max(begin - overlap, first), min(begin + STRETCH, len(counts)))
        for rule, _, _, places in firings(counts, at, policy, NUM_ENTITIES):
            for place in places:
                if at[place] >= begin:
                    yield rule, (int(at[place]) - padding) * length


def _quiet(
    policy: Policy, study: Study, mix: str, character: Character, num_monitors: int, seed: int
) -> dict[str, object]:
    """Return the alarms per week of a monitor on feeds in which nothing happens."""
    rng = np.random.default_rng(seed)
    low, high = study.mixes[mix]
    size = policy.alert_window
    found: Counter[AlertRule] = Counter()
    for _ in range(num_monitors):
        for per_day in np.geomspace(low, high, NUM_ENTITIES):
            counts = feed(rng, character, float(per_day), study.num_days, SCALES[size].past, size=size)
            found.update(rule for rule, _ in _alert_days(counts, policy))
    weeks = num_monitors * (study.num_days - study.warm_up_days) / 7
    rates = {str(rule): round(found[rule] / weeks, 4) for rule in AlertRule}
    total = sum(found.values()) / weeks
    error = sum(found.values()) ** 0.5 / weeks
    row = "  ".join(f"{rule} {rate:.3f}" for rule, rate in rates.items())
    budget = policy.false_alarms_per_week
    print(
        f"{mix:6} {character.name:14} {total:.3f} ± {error:.3f} of {budget} a week   {row}", file=sys.stderr
    )
    return {
        "mix": mix,
        "character": character.name,
        "monitor_weeks": weeks,
        "budget": budget,
        "false_alarms_per_week": round(total, 4),
        "standard_error": round(error, 4),
        "by_rule": rates,
    }


def _planted(
    policy: Policy, study: Study, turn: Turn, per_day: float, num_feeds: int, seed: int
) -> dict[str, object]:
    """Return how often a turn is caught by its rule, after how many days, and which other rules react."""
    rng = np.random.default_rng(seed)
    bias = 0.6 if turn.rule in (AlertRule.SLIDE, AlertRule.REVERSAL) else 0.2
    size, length = policy.alert_window, LENGTH[policy.alert_window] / timedelta(days=1)
    delays: list[float] = []
    others: Counter[AlertRule] = Counter()
    for _ in range(num_feeds):
        counts = feed(
            rng,
            TURNED,
            per_day,
            study.num_days,
            SCALES[size].past,
            size=size,
            bias=bias,
            turn=turn,
            turn_day=study.turn_day,
        )
        spoken = [
            (rule, round(day - study.turn_day + length, 2))
            for rule, day in _alert_days(counts, policy)
            if study.turn_day <= day < study.turn_day + turn.days + GRACE.days
        ]
        delays += sorted(day for rule, day in spoken if rule is turn.rule)[:1]
        others.update({rule for rule, _ in spoken if rule is not turn.rule})
    recall = len(delays) / num_feeds
    delay = median(delays) if delays else None
    print(f"{turn.name:32} {per_day:5} a day   caught {recall:.2f}   after {delay} days", file=sys.stderr)
    return {
        "turn": turn.name,
        "rule": str(turn.rule),
        "days": turn.days,
        "documents_a_day": per_day,
        "num_feeds": num_feeds,
        "recall": recall,
        "median_delay_days": delay,
        "other_rules": {str(rule): count / num_feeds for rule, count in others.items()},
    }


if __name__ == "__main__":
    main()
