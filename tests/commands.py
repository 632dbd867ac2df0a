"""Commands as a user gives them, in this process and over real services."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pressroom.cli import app
from pressroom.embedded.services import ServiceUrls

Run = Callable[..., Any]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, services: ServiceUrls, database_url: str, s3_url: str, tmp_path: Path
) -> Run:
    """Runs a command with `--json`, if it has that; what it printed."""
    for variable, url in services.environment().items():
        monkeypatch.setenv(variable, url)
    monkeypatch.setenv("PRESSROOM_DB_URL", database_url)
    monkeypatch.setenv("PRESSROOM_S3_URL", s3_url)
    monkeypatch.setenv("PRESSROOM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, code: int = 0) -> Any:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.output

    return invoke
