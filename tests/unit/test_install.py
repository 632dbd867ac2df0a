"""`make setup` installs by uv what pip would install, and by pip where uv cannot."""

from __future__ import annotations

import subprocess
import sys

import pytest

import install

LISTED = """\
:env:.cert='/etc/ssl/certs/ca.crt'
:env:.find-links='/wheels'
global.find-links='/old'
global.extra-index-url='https://one/simple https://two/simple'
install.timeout='60'
"""


def test_what_pip_is_set_up_with_is_handed_on_to_uv() -> None:
    settings = install.pip_settings(LISTED)
    assert settings["find-links"] == "/wheels"
    assert install.uv_options(settings) == [
        *("--index-strategy", "unsafe-best-match"),
        *("--find-links", "/wheels"),
        *("--index", "https://one/simple", "--index", "https://two/simple"),
    ]


class Installers:
    """Takes the place of child processes: which programs were called, and how they ended."""

    def __init__(self, listed: str, failing: str | None) -> None:
        self.listed = listed
        self.failing = failing
        self.called: list[str] = []

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        """As subprocess.run does."""
        assert command[:2] == [sys.executable, "-m"]
        if "config" in command:
            return subprocess.CompletedProcess(command, 0, stdout=self.listed)
        program = "wheel of uv" if command[-1] == "uv" else command[2]
        self.called.append(program)
        return subprocess.CompletedProcess(command, int(program == self.failing))


@pytest.mark.parametrize(
    ("listed", "failing", "called"),
    [
        (LISTED, None, ["wheel of uv", "uv"]),
        (LISTED, "uv", ["wheel of uv", "uv", "pip"]),
        (LISTED, "wheel of uv", ["wheel of uv", "pip"]),
        (LISTED + "global.no-binary=':all:'\n", None, ["pip"]),
    ],
    ids=["uv", "uv fails", "no uv", "a setting that uv does not know"],
)
def test_pip_installs_where_uv_cannot(
    listed: str, failing: str | None, called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installers = Installers(listed, failing)
    monkeypatch.setattr(subprocess, "run", installers.run)
    assert install.main() == 0
    assert installers.called == called


def test_a_failed_installation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", Installers("global.no-binary=':all:'", "pip").run)
    assert install.main() == 1
