"""What applications import from `pressroom`."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pressroom
from pressroom import Client, ConfigurationError

LOADED = """
import sys, pressroom
own = ("pressroom.", "workers", "db", "jobs", "sqlalchemy")
print([name for name in sys.modules if name.startswith(own)])
"""


def test_every_exported_name_is_there() -> None:
    assert sorted(pressroom.__all__) == sorted(pressroom._MODULES)
    for name in pressroom.__all__:
        assert getattr(pressroom, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'submit'"):
        pressroom.__getattr__("submit")


def test_package_loads_nothing_until_a_name_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_every_error_of_the_client_has_one_root_and_a_code() -> None:
    errors = [getattr(pressroom, name) for name in pressroom.__all__ if name.endswith("Error")]
    assert all(issubclass(error, pressroom.PressroomError) for error in errors)
    codes = [error.code for error in errors]
    assert len(set(codes)) == len(codes)


def test_client_without_services_says_what_to_do(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESSROOM_HOME", str(tmp_path))
    for name in ("DB", "REDIS", "S3"):
        monkeypatch.delenv(f"PRESSROOM_{name}_URL", raising=False)
    with pytest.raises(ConfigurationError, match="pressroom services") as caught:
        Client()
    assert caught.value.code == "services_not_found"
