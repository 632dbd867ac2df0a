"""From false alarms a week of the whole monitor to the p-value below which one test fires.

The budget is shared equally by the rules. A rule judges every entity at the end of every window; were the
tests independent, the expected number of false alarms a week would be entities x windows x threshold
(Bonferroni's count: it holds for dependent tests, too, as expectations add). Neighbouring tests of long runs
share most of their documents and one alert stands for all of them, so that a rule needs fewer tests accounted
for: TESTS_PER_WINDOW, set from the simulations of benchmarks/alerts.py so that what is measured stays below
the budget.
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
    """By rule of the policy: a window whose p-value lies below has something to tell."""
    if num_entities < 1:
        raise ValueError("a monitor has at least one entity")
    share = policy.false_alarms_per_week / max(len(policy.rules), 1) / num_entities
    windows = SCALES[policy.alert_window].windows_per_week
    return {rule: share / (windows * TESTS_PER_WINDOW[rule]) for rule in policy.rules}
