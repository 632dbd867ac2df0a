"""What kinds name as MODULE:ATTRIBUTE is there, and takes what its users hand over."""

from __future__ import annotations

import inspect

import pytest

from jobs.registry import kind_names, load_kind, load_target
from workers.recurring import KindSchedules


def targets() -> list[str]:
    kinds = [load_kind(name) for name in kind_names()]
    ports = [port.opener for kind in kinds for port in kind.ports]
    services = [service.target for kind in kinds for service in kind.background]
    writers = [kind.tables.writer for kind in kinds if kind.tables is not None]
    named = [kind.exporter for kind in kinds] + writers
    return sorted({*ports, *services, *(target for target in named if target is not None)})


@pytest.mark.parametrize("target", targets())
def test_what_a_kind_names_is_there(target: str) -> None:
    assert inspect.isroutine(load_target(target))


@pytest.mark.parametrize("name", [name for name in kind_names() if load_kind(name).recurring is not None])
def test_schedules_of_a_kind_are_derived_from_those_of_a_table(name: str) -> None:
    own = load_target(str(load_kind(name).recurring))
    assert issubclass(own, KindSchedules)
    assert inspect.isroutine(own.start)
