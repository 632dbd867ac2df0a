"""What a command loads: help and the version need none of the libraries that only the work needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text
from typer.main import get_command

from pressroom.cli import app, commands
from pressroom.lazy import LazyCommand

WORK = {
    "alembic",
    "boto3",
    "botocore",
    "celery",
    "datasketch",
    "feedparser",
    "httpx",
    "huggingface_hub",
    "jinja2",
    "kombu",
    "lingua",
    "matplotlib",
    "numpy",
    "psycopg",
    "pyarrow",
    "redis",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "tokenizers",
    "torch",
    "transformers",
}
"""Libraries that only work needs."""

MAX_MEMORY_KB = 60 * 1024

PROGRAM = """
import json, runpy, sys
status = 0
try:
    sys.argv = ["pressroom", *sys.argv[1:]]
    runpy.run_module("pressroom", run_name="__main__")
except SystemExit as end:
    status = end.code
[peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"status": status, "memory_kb": int(peak.split()[1]), "loaded": loaded}), file=sys.stderr)
"""


def run(*arguments: str, home: Path) -> tuple[str, int, set[str]]:
    """What a new process prints, its peak memory in KB, and the top-level packages that it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={
            "PRESSROOM_HOME": str(home),
            "PRESSROOM_MODELS_DIR": str(home / "models"),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        },
    )
    figures = json.loads(done.stderr.splitlines()[-1])
    assert figures["status"] in (0, None), done.stderr
    return done.stdout, figures["memory_kb"], set(figures["loaded"])


def lazy_commands() -> list[LazyCommand]:
    """Every command that is declared, at whatever depth."""
    table = commands()
    groups = [""]
    declared = []
    for group in groups:
        members = table.members(group)
        groups += [member.path for member in members]
        declared += [LazyCommand(member, table) for member in members if member.target is not None]
    return declared


@pytest.mark.parametrize("command", lazy_commands(), ids=lambda command: command.path)
def test_the_declared_help_is_that_of_the_command_itself(command: LazyCommand) -> None:
    loaded = command.load()
    assert loaded.name == command.name
    assert loaded.get_short_help_str(1000) == command.get_short_help_str(1000)


@pytest.mark.parametrize("command", lazy_commands(), ids=lambda command: command.path)
def test_no_help_loses_what_a_terminal_takes_for_markup(command: LazyCommand) -> None:
    loaded = command.load()
    for each in [loaded, *getattr(loaded, "commands", {}).values()]:
        texts = [each.help, *(getattr(parameter, "help", None) for parameter in each.params)]
        for text in filter(None, texts):
            assert Text.from_markup(text).plain == text, each.name


def test_the_version_needs_neither_pydantic_nor_rich_nor_much_memory(tmp_path: Path) -> None:
    printed, memory_kb, loaded = run("--version", home=tmp_path)
    assert printed.startswith("pressroom ")
    assert not loaded & (WORK | {"pydantic", "rich"})
    assert memory_kb < MAX_MEMORY_KB


@pytest.mark.parametrize("group", ["", "run", "submit", "train"])
def test_help_of_a_group_loads_no_command(group: str, tmp_path: Path) -> None:
    printed, memory_kb, loaded = run(*group.split(), "--help", home=tmp_path)
    assert "Usage:" in printed
    assert not loaded & (WORK | {"workers", "db", "storage"})
    assert memory_kb < MAX_MEMORY_KB


def test_no_module_of_commands_loads_what_only_their_work_needs() -> None:
    """Help and completion of a command need its module alone."""
    targets = sorted(
        {
            command.target.partition(":")[0] if isinstance(command.target, str) else "pressroom.commands.kind"
            for command in lazy_commands()
        }
    )
    assert "kinds.sentiment.commands.monitor" in targets
    program = f"import sys, {', '.join(targets)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert not {name.partition(".")[0] for name in done.stdout.split()} & WORK


@pytest.mark.parametrize("arguments", [("config",), ("models", "list")], ids=" ".join)
def test_a_command_that_asks_no_service_loads_no_client(arguments: tuple[str, ...], tmp_path: Path) -> None:
    _, memory_kb, loaded = run(*arguments, home=tmp_path)
    assert not loaded & WORK
    assert memory_kb < MAX_MEMORY_KB


def test_a_group_completes_the_names_of_its_commands_without_loading_them() -> None:
    root = get_command(app)
    context = root.make_context("pressroom", ["models", "verify"], resilient_parsing=True)
    assert "monitor" in {item.value for item in root.shell_complete(context, "mo")}
    models = next(command for command in lazy_commands() if command.name == "models")
    inner = models.make_context("models", ["verify"], parent=context, resilient_parsing=True)
    assert {item.value for item in inner.command.shell_complete(inner, "ver")} == {"verify"}
