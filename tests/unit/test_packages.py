"""Every top-level package is named wherever packages are listed: a list that lacks one checks less."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmarks.code_facts import PACKAGES as COUNTED
from tests.unit.hostile_texts import PACKAGES as WITH_PATTERNS
from tests.unit.test_layers import LAYERS
from workers.logs import OWN_LOGGERS

ROOT = Path(__file__).parents[2]
NOT_SHIPPED = {"tests", "benchmarks", "examples"}
TOOLS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
ALL_LAYERS = "kinds -> pressroom -> workers -> db | storage -> jobs"
CONTRACTS: dict[str, dict[str, Any]] = {
    contract["name"]: contract for contract in TOOLS["importlinter"]["contracts"]
}


def packages() -> set[str]:
    """Top-level folders with code that is shipped."""
    return {path.parent.name for path in ROOT.glob("*/__init__.py")} - NOT_SHIPPED


def doctests_of_make() -> set[str]:
    """Folders that `make check` looks for doctests in."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    (line,) = [line for line in lines if "--doctest-modules" in line]
    return {word for word in line.partition("--doctest-modules")[0].split() if word.isidentifier()}


LISTS = {
    "wheel": set(TOOLS["hatch"]["build"]["targets"]["wheel"]["packages"]),
    "mypy": set(TOOLS["mypy"]["packages"]) - NOT_SHIPPED,
    "import-linter": set(TOOLS["importlinter"]["root_packages"]),
    "layers": set(re.findall(r"\w+", " ".join(CONTRACTS[ALL_LAYERS]["layers"]))),
    "torch contract": set(CONTRACTS["only engines, conversion and training touch torch"]["source_modules"]),
    "doctests": doctests_of_make(),
    "Dockerfile": set(re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)),
    ".dockerignore": set(re.findall(r"^!([a-z]+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)),
    "test of layers": {*LAYERS, "kinds"},
    "hostile texts": set(WITH_PATTERNS),
    "facts of size": set(COUNTED),
    "loggers": set(OWN_LOGGERS),
}


@pytest.mark.parametrize("place", LISTS)
def test_every_package_is_named_where_packages_are_listed(place: str) -> None:
    assert LISTS[place] == packages()


def test_packages_of_the_tests_are_checked_by_mypy_too() -> None:
    assert set(TOOLS["mypy"]["packages"]) == packages() | NOT_SHIPPED
