"""Texts that make a pattern try again: made from the pattern itself, so that a new one is tried, too."""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

PACKAGES = ("jobs", "kinds", "storage", "db", "workers", "pressroom")
FUNCTIONS = frozenset(
    {"compile", "findall", "finditer", "fullmatch", "match", "search", "split", "sub", "subn"}
)
"""Of `re`: their first argument is a pattern."""
_MEMBERS_OF = {
    constants.CATEGORY_SPACE: " \n",
    constants.CATEGORY_NOT_SPACE: "a.",
    constants.CATEGORY_DIGIT: "0",
    constants.CATEGORY_NOT_DIGIT: "a ",
    constants.CATEGORY_WORD: "a0",
    constants.CATEGORY_NOT_WORD: " .",
}


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every pattern of every module: compiled ones by name, those that stand in a call by line."""
    seen: set[tuple[Any, int]] = set()
    for module, tree in _modules():
        named = [(name, pattern) for name, value in vars(module).items() for pattern in _in(value)]
        for name, pattern in [*named, *_written(module, tree)]:
            if (pattern.pattern, pattern.flags) not in seen:
                seen.add((pattern.pattern, pattern.flags))
                yield f"{module.__name__}.{name}", pattern


def built_patterns() -> set[str]:
    """Modules and functions that build a pattern from values: it is known only when they are called."""
    built: set[str] = set()
    for module, tree in _modules():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in _calls(function):
                    if _constant(call.args[0], module) is None:
                        built.add(f"{module.__name__}.{function.name}")
    return built


@cache
def _modules() -> list[tuple[ModuleType, ast.Module]]:
    """Those that call `re`, with their source; the others are not loaded, torch and the like with them."""
    modules = []
    for package in PACKAGES:
        root = importlib.import_module(package)
        for folder in map(Path, root.__path__):
            for path in sorted(folder.rglob("*.py")):
                tree = ast.parse(path.read_text())
                if any(_calls(tree)) and "migrations" not in path.parts:
                    name = ".".join((package, *path.relative_to(folder).with_suffix("").parts))
                    modules.append((importlib.import_module(name.removesuffix(".__init__")), tree))
    return modules


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls of a function of `re` with a pattern."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "re"
            and node.func.attr in FUNCTIONS
        ):
            yield node


def _written(module: ModuleType, tree: ast.Module) -> Iterator[tuple[str, re.Pattern[Any]]]:
    for call in _calls(tree):
        if (text := _constant(call.args[0], module)) is not None:
            flags = [each for each in (*call.args, *(key.value for key in call.keywords)) if _is_flag(each)]
            names = {
                name.attr for each in flags for name in ast.walk(each) if isinstance(name, ast.Attribute)
            }
            yield f"line {call.lineno}", re.compile(text, sum(getattr(re, name) for name in names))


def _is_flag(node: ast.expr) -> bool:
    return ast.unparse(node).startswith("re.")


def _constant(node: ast.expr, module: ModuleType) -> Any:
    """The pattern's text; None for one that is built from other values than the module's."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        value = vars(module).get(node.id)
        return value if isinstance(value, str | bytes) else None
    return None


def _in(value: Any, depth: int = 3) -> Iterator[re.Pattern[Any]]:
    if type(value) is re.Pattern:  # not isinstance, which would evaluate a lazy object
        yield value
    elif issubclass(type(value), list | tuple) and depth:
        for each in value:
            yield from _in(each, depth - 1)
    elif issubclass(type(value), dict) and depth:
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
