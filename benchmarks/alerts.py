"""False alarms, recall and delay of the alert rules, by simulation.

    python -m benchmarks.alerts [--quick]

Quiet feeds of several characters say how many alarms a monitor of 36 entities would raise in a week in which
nothing happens, against its budget; feeds with a planted turn say how many are caught by the rule they are
for, and how late. Prints tables on stderr and one JSON object on stdout, and writes
benchmarks/results/alerts.json (not with --quick). Runs in a few minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from statistics import median

import numpy as np

from benchmarks.alert_feeds import QUIET, TURNS, Character, Turn, feed
from benchmarks.machine import machine_facts, write_result
from jobs.series.alerts import fired
from jobs.series.budget import thresholds
from jobs.series.counts import Counts
from jobs.series.policy import Policy
from jobs.series.rules.scale import SCALES
from jobs.series.scoring import GRACE
from jobs.series.window import AlertRule

NUM_ENTITIES = 36
NUM_DAYS = 182
WARM_UP_DAYS = 28
"""No rule judges with less past."""
TURN_DAY = 100
MIXES = {"mixed": (0.15, 12.0), "busy": (4.0, 15.0)}
"""Documents a day of a monitor's entities, evenly spread on a logarithmic scale."""
DRIFT = Character(name="drift", moods=0.4, mood_memory=0.95)
"""A mood that wanders for weeks: shown, not calibrated for, since it is hard to say that nothing has
happened."""
TURNED = Character(name="turned", dispersion=1.5, weekend=0.3, bursts=0.3, moods=0.2)
PER_DAY = (0.7, 1.5, 4.0, 10.0)
SEED = 11


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the feeds; nothing is written")
    quick = parser.parse_args().quick
    policy = Policy()
    quiet = [
        _quiet(policy, mix, character, num_monitors=1 if quick else 10)
        for mix in MIXES
        for character in (*QUIET, DRIFT)
    ]
    planted = [_planted(policy, turn, per_day, 5 if quick else 50) for turn in TURNS for per_day in PER_DAY]
    result: dict[str, object] = {
        "machine": machine_facts(),
        "policy": policy.model_dump(mode="json"),
        "num_entities": NUM_ENTITIES,
        "thresholds": {str(rule): value for rule, value in thresholds(policy, NUM_ENTITIES).items()},
        "characters": [asdict(character) for character in (*QUIET, DRIFT, TURNED)],
        "quiet": quiet,
        "planted": planted,
    }
    print(json.dumps(result, indent=2))
    if not quick:
        print(f"written to {write_result('alerts', result)}", file=sys.stderr)


def _alert_days(counts: Counts, policy: Policy) -> Iterator[tuple[AlertRule, int]]:
    """Rule and day, counted from the feed's first, of each alert."""
    padding = SCALES[policy.alert_window].past
    at = np.arange(max(padding, counts.known_from), len(counts))
    for rule, _, _, places in fired(counts, at, policy, NUM_ENTITIES):
        for place in places:
            yield rule, int(at[place]) - padding


def _quiet(policy: Policy, mix: str, character: Character, num_monitors: int) -> dict[str, object]:
    """Alarms a week of a monitor, on feeds in which nothing happens."""
    rng = np.random.default_rng(SEED)
    low, high = MIXES[mix]
    found: Counter[AlertRule] = Counter()
    for _ in range(num_monitors):
        for per_day in np.geomspace(low, high, NUM_ENTITIES):
            counts = feed(rng, character, float(per_day), NUM_DAYS, SCALES[policy.alert_window].past)
            found.update(rule for rule, _ in _alert_days(counts, policy))
    weeks = num_monitors * (NUM_DAYS - WARM_UP_DAYS) / 7
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


def _planted(policy: Policy, turn: Turn, per_day: float, num_feeds: int) -> dict[str, object]:
    """How often a turn is caught by its rule, and after how many days; and which others speak of it."""
    rng = np.random.default_rng(SEED)
    bias = 0.6 if turn.rule in (AlertRule.SLIDE, AlertRule.REVERSAL) else 0.2
    delays: list[int] = []
    others: Counter[AlertRule] = Counter()
    for _ in range(num_feeds):
        counts = feed(
            rng,
            TURNED,
            per_day,
            NUM_DAYS,
            SCALES[policy.alert_window].past,
            bias=bias,
            turn=turn,
            turn_day=TURN_DAY,
        )
        spoken = [
            (rule, day - TURN_DAY + 1)
            for rule, day in _alert_days(counts, policy)
            if TURN_DAY <= day < TURN_DAY + turn.days + GRACE.days
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
