"""Runs every test of an attack and prints how many attacks got their answer.

`python -m tests.attacks [PYTEST OPTIONS]` exits 1 if an attack of attacks.toml has no passing test.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict

import pytest

from tests.attacks import Attack, listed_attacks, marked_attacks


class Scoreboard:
    """A pytest plugin that counts the outcomes of the tests of each attack."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self._attacks: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self._attacks[item.nodeid] = [mark.args[0] for mark in item.iter_markers("attack")]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            for name in self._attacks[report.nodeid]:
                self.outcomes[name][report.outcome] += 1

    def answered(self, attack: Attack) -> bool:
        """Whether tests of the attack have run and all of them passed."""
        return set(self.outcomes[attack.name]) == {"passed"}


def main() -> int:
    attacks = listed_attacks()
    files = sorted({str(path) for _, path in marked_attacks()})
    board = Scoreboard()
    pytest.main(["-m", "attack", "-q", *sys.argv[1:], *files], plugins=[board])
    tried = [attack for attack in attacks if attack.waits_for is None]
    for attack in attacks:
        state = "waits" if attack.waits_for else "answered" if board.answered(attack) else "FAILED"
        count = sum(board.outcomes[attack.name].values())
        print(f"{state:8}  {count:4} tests  {attack.name}: {attack.answer}")
    num_answered = sum(map(board.answered, tried))
    num_tests = sum(sum(outcomes.values()) for outcomes in board.outcomes.values())
    print(
        f"{num_answered} of {len(tried)} attacks were answered as they should be, in {num_tests} tests; "
        f"{len(attacks) - len(tried)} more wait for an interface that does not exist yet."
    )
    return int(num_answered < len(tried))


if __name__ == "__main__":
    sys.exit(main())
