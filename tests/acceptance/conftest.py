"""The examples written once by the real model, for every test that looks at what came of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from db.session import opened_database
from pressroom.embedded.services import Services, ServiceUrls
from storage import open_store
from storage.store import Store
from tests.acceptance.running import pressroom
from tests.services import embedded_settings

BRIEFS = Path(__file__).parents[2] / "examples" / "articles" / "briefs.csv"

EXAMPLES_SECONDS = 500.0
"""About one minute on two cores of its own; pytest-timeout ends the test at 600."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRun:
    """`pressroom run articles examples/articles/briefs.csv`, after it ended."""

    home: Path
    models_dir: Path
    out: Path
    code: int
    printed: dict[str, Any]
    """The object of `--json`."""
    briefs: list[dict[str, str]]

    @property
    def batch_id(self) -> str:
        return str(self.printed["batch_id"])

    def records(self) -> list[dict[str, Any]]:
        """The lines of results.jsonl."""
        return [json.loads(line) for line in (self.out / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def example_run(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> ExampleRun:
    """One run of the example file with everything as it is by default."""
    folder = tmp_path_factory.mktemp("examples")
    arguments = ("run", "articles", BRIEFS, "--out", folder / "out", "--json")
    with pressroom(folder / "home", *arguments, models_dir=str(model_folder.parent)) as run:
        code, printed = run.finish(EXAMPLES_SECONDS)
        assert printed, run.stderr
    with BRIEFS.open(newline="") as file:
        briefs = list(csv.DictReader(file))
    return ExampleRun(
        home=run.home,
        models_dir=model_folder.parent,
        out=folder / "out",
        code=code,
        printed=printed,
        briefs=briefs,
    )


@pytest.fixture(scope="session")
def example_services(example_run: ExampleRun) -> Iterator[ServiceUrls]:
    """The services of the examples' home, started again for whoever looks."""
    with Services(embedded_settings(example_run.home), print, long_running=True) as services:
        yield services.urls


@pytest.fixture(scope="session")
def example_database(example_services: ServiceUrls) -> Iterator[Engine]:
    with opened_database(example_services.db_url) as database:
        yield database


@pytest.fixture(scope="session")
def example_store(example_services: ServiceUrls) -> Store:
    return open_store(example_services.s3_url)
