"""Texts that make a pattern try again: made from the pattern itself, so that a new one is tried, too."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterable, Iterator
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

PACKAGES = ("jobs", "kinds", "storage")
"""Where foreign text is looked at; the others have patterns for names that are bounded."""
_MEMBERS_OF = {
    constants.CATEGORY_SPACE: " \n",
    constants.CATEGORY_NOT_SPACE: "a.",
    constants.CATEGORY_DIGIT: "0",
    constants.CATEGORY_NOT_DIGIT: "a ",
    constants.CATEGORY_WORD: "a0",
    constants.CATEGORY_NOT_WORD: " .",
}


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every compiled pattern of every module, by its name; those within tuples and mappings as well."""
    seen: set[tuple[Any, int]] = set()
    for package in PACKAGES:
        root = importlib.import_module(package)
        for info in pkgutil.walk_packages(root.__path__, f"{package}."):
            if ".migrations" in info.name or info.name.endswith("__main__"):
                continue
            module = importlib.import_module(info.name)
            for name, value in vars(module).items():
                for pattern in _in(value):
                    if (pattern.pattern, pattern.flags) not in seen:
                        seen.add((pattern.pattern, pattern.flags))
                        yield f"{info.name}.{name}", pattern


def _in(value: object, depth: int = 3) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, list | tuple) and depth:
        for each in value:
            yield from _in(each, depth - 1)
    elif isinstance(value, dict) and depth:
        for each in value.values():
            yield from _in(each, depth - 1)


def hostile_texts(pattern: re.Pattern[Any], size: int) -> Iterator[str]:
    """Texts of about this size: parts of what the pattern looks for, again and again, and then no match."""
    tree = parser.parse(pattern.pattern, pattern.flags)
    parts = sorted({part for part in _parts(tree) if part})[:40]
    for part in [*parts, " ", "\n", "a"]:
        for end in ("\x01", "x"):
            yield part * (size // len(part)) + end
    whole = _sample(tree)
    for first in parts[:20]:
        yield whole[: len(whole) // 2] + first * (size // len(first)) + "\x01"


def _sample(tree: Iterable[Any]) -> str:
    """A text that the pattern may match."""
    return "".join(next(iter(_texts(op, argument)), "") for op, argument in tree)


def _parts(tree: Iterable[Any]) -> Iterator[str]:
    """What each piece of the pattern matches, and each two pieces that follow one another."""
    pieces = [list(_texts(op, argument)) for op, argument in tree]
    for number, texts in enumerate(pieces):
        yield from texts
        for following in pieces[number + 1 : number + 3]:
            yield from (one + other for one in texts[:2] for other in following[:2])
    for op, argument in tree:
        for inner in _inner(op, argument):
            yield from _parts(inner)
    yield _sample(tree)


def _inner(op: Any, argument: Any) -> list[Any]:
    if op in (constants.MAX_REPEAT, constants.MIN_REPEAT, constants.POSSESSIVE_REPEAT):
        return [argument[2]]
    if op is constants.SUBPATTERN:
        return [argument[3]]
    if op is constants.BRANCH:
        return list(argument[1])
    if op in (constants.ASSERT, constants.ASSERT_NOT):
        return [argument[1]]
    return [argument] if op is constants.ATOMIC_GROUP else []


def _texts(op: Any, argument: Any) -> Iterator[str]:
    if op is constants.LITERAL:
        yield chr(argument)
    elif op is constants.NOT_LITERAL:
        yield "a" if argument != ord("a") else "b"
    elif op is constants.ANY:
        yield "a"
    elif op is constants.IN:
        yield from _members(argument)
    elif op in (constants.ASSERT, constants.ASSERT_NOT, constants.AT):
        return
    elif op in (constants.MAX_REPEAT, constants.MIN_REPEAT, constants.POSSESSIVE_REPEAT):
        yield _sample(argument[2]) * max(1, min(argument[0], 40))
    else:
        yield from (_sample(inner) for inner in _inner(op, argument))


def _members(members: Iterable[tuple[Any, Any]]) -> list[str]:
    given = list(members)
    if given and given[0][0] is constants.NEGATE:
        literals = {chr(value) for op, value in given if op is constants.LITERAL}
        return [each for each in "a .0<" if each not in literals][:2]
    found: list[str] = []
    for op, value in given:
        if op is constants.LITERAL:
            found.append(chr(value))
        elif op is constants.RANGE:
            found.append(chr(value[0]))
        elif op is constants.CATEGORY:
            found += list(_MEMBERS_OF.get(value, "a"))
    return found[:6]


def growth(work: Callable[[str], object], make: Callable[[int], str], size: int) -> float:
    """How much longer a text of four times the size takes: 4 for linear work, 16 for quadratic.

    The best of several tries; work too short to be told from nothing is linear.
    """
    if _seconds(work, make(4 * size)) < 0.02:
        return 1.0
    small, large = (min(_seconds(work, make(one)) for _ in range(3)) for one in (size, 4 * size))
    return 1.0 if large < 0.02 else large / max(small, 0.001)


def _seconds(work: Callable[[str], object], text: str) -> float:
    begun = time.process_time()
    work(text)
    return time.process_time() - begun
