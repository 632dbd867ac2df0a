"""Converts a monitor's budget of false alarms per week into the p-value below which one test fires.

The budget is shared equally by the rules. A rule judges every entity at the end of every window; were the
tests independent, the expected number of false alarms per week would be entities x windows x threshold
(Bonferroni's count, which also holds for dependent tests, because expectations add). Neighbouring tests of
long runs share most of their documents and are covered by a single alert, so a rule needs to account for
fewer tests: TESTS_PER_WINDOW, set from the simulations of benchmarks/alerts.py so that the measured rate
stays below the budget.
"""

from __future__ import annotations

from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.rules.scale import SCALES
from kinds.sentiment.series.window import AlertRule

TESTS_PER_WINDOW: dict[AlertRule, float] = {
    AlertRule.SURGE: 0.75,
    AlertRule.SLIDE: 0.2,
    AlertRule.SILENCE: 0.25,
    AlertRule.REVERSAL: 0.08,
}


def thresholds(policy: Policy, num_entities: int) -> dict[AlertRule, float]:
    """Return for each rule of the policy the p-value below which a window raises an alert.

    Raises ValueError for fewer than one entity.
    """
    if num_entities < 1:
        raise ValueError("a monitor has at least one entity")
    share = policy.false_alarms_per_week / max(len(policy.rules), 1) / num_entities
    windows = SCALES[policy.alert_window].windows_per_week
    return {rule: share / (windows * TESTS_PER_WINDOW[rule]) for rule in policy.rules}
