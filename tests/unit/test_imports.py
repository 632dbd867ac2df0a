"""What an entry point must not load: import contracts miss lazy imports, a process of its own does not."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import jobs

HEAVY = {"torch", "transformers", "safetensors", "gguf"}
SERVICES = {"celery", "kombu", "redis", "sqlalchemy", "psycopg", "boto3", "alembic"}

PROGRAM = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_by(*modules: str) -> set[str]:
    """Top-level packages in a new process after it has imported these."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *modules], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "entry_point",
    [
        "pressroom",
        "pressroom.cli",
        "workers.celery",
        "workers.tasks",
        "workers.dispatcher",
        "workers.producer",
        "workers.supervisor",
    ],
)
def test_an_entry_point_does_not_load_torch(entry_point: str) -> None:
    assert not loaded_by(entry_point) & HEAVY


def test_who_owns_the_services_loads_nothing_that_starts_threads() -> None:
    """With threads it could not take a user namespace of its own."""
    assert not loaded_by("pressroom.embedded.services") & {"numpy", "scipy", "pyarrow"}


def test_jobs_know_no_service_and_no_model() -> None:
    modules = [module.name for module in pkgutil.walk_packages(jobs.__path__, "jobs.")]
    assert "jobs.kind" in modules
    own = SERVICES - {"redis"}  # datasketch imports it; import-linter sees that jobs does not
    assert not loaded_by(*modules) & (HEAVY | own)


def test_an_import_needs_no_settings_and_touches_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import pressroom.cli, workers.celery, workers.tasks, db.tables"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PRESSROOM_NUM_SLOTS": "not a number", "PRESSROOM_HOME": "/nowhere"},
    )
    assert (done.stdout, done.stderr) == ("", "")
