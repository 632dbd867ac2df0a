"""The attacks that Pressroom answers, and which tests try each of them.

attacks.toml lists the attacks; a test that tries one carries `@pytest.mark.attack(NAME)`.
`python -m tests.attacks` runs all of these tests as one suite and prints how many attacks got their answer.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Attack:
    """One kind of hostile input, and what it must get."""

    name: str
    answer: str
    waits_for: str | None = None
    """The interface that the attack needs and that does not exist yet."""


def listed_attacks() -> tuple[Attack, ...]:
    """The attacks of attacks.toml, in its order."""
    table = tomllib.loads((TESTS / "attacks" / "attacks.toml").read_text())
    return tuple(Attack(**entry) for entry in table["attack"])


def marked_attacks() -> Iterator[tuple[str, Path]]:
    """The name in each attack mark in the tests, with the file that it stands in.

    The files are parsed, not imported, so that this takes a second.
    """
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.attack":
                yield ast.literal_eval(node.args[0]), path
