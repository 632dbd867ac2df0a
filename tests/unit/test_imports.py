"""What an entry point must not load: import contracts miss lazy imports, a process of its own does not."""

from __future__ import annotations

import json
import pkgutil
import re
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
        "pressroom.client",
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


KINDS_OF_A_WORKER = """
import importlib, json, sys
import workers.process
from jobs.registry import load_kinds, load_target, warm_kinds
kinds = load_kinds().values()
loaded = sorted(sys.modules)
for kind in kinds:
    if kind.tables is not None:
        importlib.import_module(kind.tables.module)
    for target in [*(port.opener for port in kind.ports), kind.tables and kind.tables.writer]:
        target and load_target(target)
opened = sorted(sys.modules)
warm_kinds()
print(json.dumps([loaded, opened, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def kinds_of_a_worker() -> tuple[set[str], set[str], set[str]]:
    """Modules of a worker with its kinds, then with their tables and ports too, then warm."""
    done = subprocess.run(
        [sys.executable, "-c", KINDS_OF_A_WORKER], capture_output=True, text=True, check=True, timeout=60
    )
    loaded, opened, warm = map(set, json.loads(done.stdout))
    return loaded, opened, warm


def test_worker_imports_every_kind_without_the_command_line(
    kinds_of_a_worker: tuple[set[str], set[str], set[str]],
) -> None:
    loaded, opened, warm = kinds_of_a_worker
    assert {"kinds.article.kind", "kinds.sentiment.kind"} <= loaded
    assert "kinds.sentiment.store.history" in opened
    assert not {"typer", "rich", *HEAVY} & loaded
    assert not {"typer", *HEAVY} & warm  # httpx brings rich, where sources are fetched
    assert [name for name in warm if name.startswith("pressroom")] == []
    assert [name for name in warm if re.match(r"kinds\.\w+\.(commands|command_table|export)\b", name)] == []


def test_library_that_draws_is_loaded_while_a_worker_warms(
    kinds_of_a_worker: tuple[set[str], set[str], set[str]],
) -> None:
    loaded, opened, warm = kinds_of_a_worker
    assert "matplotlib" in warm
    assert "matplotlib" not in loaded | opened


COMMAND = """
import json, runpy, sys
sys.argv = ["pressroom", *sys.argv[1:]]
try:
    runpy.run_module("pressroom", run_name="__main__")
except SystemExit:
    pass
print(json.dumps(sorted(name for name in sys.modules if name.startswith("kinds."))), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        (["--help"], set()),
        (["run", "--help"], set()),
        (["run", "articles", "--help"], {"article"}),
        (["run", "prompt", "--help"], {"prompt"}),
        (["monitor", "--help"], {"sentiment"}),
        (["evaluate", "--help"], set()),
    ],
)
def test_command_line_imports_a_kinds_commands_only_when_one_is_called(
    arguments: list[str], kinds: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    loaded: list[str] = json.loads(done.stderr.splitlines()[-1])
    own = {name.split(".")[1] for name in loaded if name.count(".") > 1 and "command_table" not in name}
    assert own == kinds


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
