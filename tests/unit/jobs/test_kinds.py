"""Kinds are found by entry points; one that is broken is named, and keeps no other from being loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.errors import ConfigurationError
from jobs.registry import kind_names, load_kind, load_kinds, load_target, warm_kinds

MODULE = """
from pydantic import BaseModel

from jobs.kind import Artifact, Kind, Result


class Poem(BaseModel):
    text: str


class PoemKind(Kind[Poem]):
    name = "poem"
    payload_type = Poem

    def run(self, payload, context):
        return Result(artifacts=(Artifact(name="poem.txt", media_type="text/plain", body=b"poem"),))


class Nameless(Kind[Poem]):
    payload_type = Poem
    run = PoemKind.run


class ColdKind(PoemKind):
    name = "cold"

    def warm(self):
        raise OSError("no font is there")


class Unfinished(Kind[Poem]):
    name = "poem"
    payload_type = Poem


class Formless(PoemKind):
    payload_type = None


class Careless(PoemKind):
    settings_type = dict


class Stranger:
    name = "poem"
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package whose entry points name kinds in the module `kinds_of_poems`."""
    (tmp_path / "kinds_of_poems.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def install(package: str = "poems", **kinds: str) -> None:
        folder = tmp_path / f"{package}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        entries = "".join(f"{name} = {target}\n" for name, target in kinds.items())
        (folder / "entry_points.txt").write_text(f"[pressroom.kinds]\n{entries}")
        load_kind.cache_clear()

    yield install
    load_kind.cache_clear()


def refusal(name: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        load_kind(name)
    return raised.value.code


def test_a_kind_that_cannot_be_loaded_keeps_no_other_from_it(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(a_broken_kind="nowhere_at_all:Kind", poem="kinds_of_poems:PoemKind")
    assert "a_broken_kind" in kind_names()
    with caplog.at_level(logging.WARNING):
        kinds = load_kinds()
    assert [record.__dict__["kind"] for record in caplog.records] == ["a_broken_kind"]
    assert set(kinds) == set(kind_names()) - {"a_broken_kind"}
    assert kinds["poem"] is load_kind("poem")


def test_a_kind_that_cannot_be_warmed_keeps_no_other_from_it(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(cold="kinds_of_poems:ColdKind", poem="kinds_of_poems:PoemKind")
    with caplog.at_level(logging.WARNING):
        warm_kinds()
    assert [record.__dict__["kind"] for record in caplog.records] == ["cold"]
    assert load_kind("cold").name == "cold"


@pytest.mark.parametrize(
    "target", ["nowhere_at_all:Kind", "kinds_of_poems:Lost", "kinds_of_poems:Unfinished"]
)
def test_a_kind_that_cannot_be_loaded_is_an_error_with_a_name(install: Install, target: str) -> None:
    install(poem=target)
    assert refusal("poem") == "kind_unloadable"


@pytest.mark.parametrize("name", ["Stranger", "Nameless", "Formless", "Careless"])
def test_what_is_no_kind_is_refused(install: Install, name: str) -> None:
    install(poem=f"kinds_of_poems:{name}")
    assert refusal("poem") == "kind_invalid"


def test_a_kind_is_refused_under_a_name_that_is_not_its_own(install: Install) -> None:
    install(verse="kinds_of_poems:PoemKind")
    assert refusal("verse") == "kind_invalid"


@pytest.mark.parametrize("name", ["Poem", "poem.verse", "two poems", "_poem"])
def test_a_kind_whose_name_is_no_word_of_the_command_line_is_refused(install: Install, name: str) -> None:
    install(**{name: "kinds_of_poems:PoemKind"})
    assert refusal(name) == "kind_invalid"


def test_two_packages_with_kinds_of_one_name_are_refused(install: Install) -> None:
    install("poems", poem="kinds_of_poems:PoemKind")
    install("verses", poem="kinds_of_poems:Nameless")
    assert refusal("poem") == "kind_doubled"


def test_a_kind_that_nobody_installs_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(ConfigurationError, match=r"installed kinds are .*article") as raised:
        load_kind("no_such_kind")
    assert raised.value.code == "kind_unknown"


@pytest.mark.parametrize(
    "target", ["", "jobs", ":", "jobs.kind:Nothing", "no_such_module:x", "jobs..kind:Kind"]
)
def test_a_name_of_nothing_is_an_error_that_says_so(target: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be loaded") as raised:
        load_target(target)
    assert raised.value.code == "target_unknown"
