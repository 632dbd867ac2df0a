"""Every attack that is listed is tried by a test, and every test of an attack names one of the list."""

from __future__ import annotations

from tests.attacks import listed_attacks, marked_attacks


def test_each_listed_attack_is_tried_by_a_test() -> None:
    tried = {name for name, _ in marked_attacks()}
    assert {attack.name for attack in listed_attacks() if attack.waits_for is None} <= tried


def test_each_mark_names_a_listed_attack() -> None:
    names = {attack.name for attack in listed_attacks()}
    assert {(name, path.name) for name, path in marked_attacks() if name not in names} == set()
