"""What constraints.txt pins is what pyproject.toml asks for, and installs from the public index anywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
DECLARED = [Requirement(line) for group in (PROJECT["dependencies"], *EXTRAS.values()) for line in group]

PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;=<>!~@]+)")
"""NAME==VERSION and nothing else: no range, no marker, no URL, no wildcard."""


def pins() -> dict[str, Version]:
    """Canonical name -> version of every line."""
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    matches = [(line, PIN.fullmatch(line)) for line in lines if line and not line.startswith("#")]
    assert [line for line, match in matches if match is None] == []
    found = [(canonicalize_name(match["name"]), Version(match["version"])) for _, match in matches if match]
    assert len(dict(found)) == len(found), "a package is pinned twice"
    return dict(found)


def test_every_line_pins_one_version_exactly() -> None:
    assert len(pins()) > len(DECLARED)


def test_no_pin_carries_a_local_version_label() -> None:
    assert [f"{name}=={version}" for name, version in pins().items() if version.local is not None] == []


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda requirement: requirement.name)
def test_every_declared_dependency_is_pinned_to_a_version_that_it_allows(requirement: Requirement) -> None:
    pinned = pins().get(canonicalize_name(requirement.name))

    assert pinned is not None
    assert requirement.specifier.contains(pinned)
