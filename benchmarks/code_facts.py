"""Counts the code without its tests: modules, their lines and importers, and imports of kinds from below.

`python -m benchmarks.code_facts [--against REVISION ...]` counts the checkout and, for comparison, each
revision in git. A module counts as imported if another module imports it, or names it in a string as MODULE
or MODULE:ATTRIBUTE. The result is stored in benchmarks/results/code_facts.json.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.machine import write_result

HERE = Path(__file__).parents[1]
PACKAGES = ("jobs", "db", "storage", "workers", "pressroom", "kinds")
KINDS = "kinds"

_NAMED = re.compile(r"([a-z_0-9]+(?:\.[a-z_0-9]+)+)(?::\w+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFacts:
    """Figures of one checkout."""

    modules: int
    """Number of modules, without __init__.py files and without migrations, which are never edited again."""
    median_lines: int
    lines: int
    modules_with_one_importer: int
    imports_into_kinds_from_below: int | None
    """Number of imports of kinds by lower layers; None for a checkout in which kinds have no folder."""


def code_facts(root: Path) -> CodeFacts:
    """Return the figures of all modules in the root's packages."""
    texts = dict(_modules(root))
    importers: dict[str, set[str]] = {name: set() for name in texts}
    for name, text in texts.items():
        for other in _imports(ast.parse(text), importers):
            if other != name:
                importers[other].add(name)
    lines = [text.count("\n") for text in texts.values()]
    into_kinds = [
        (importer, name)
        for name, others in importers.items()
        for importer in others
        if _package(name) == KINDS != _package(importer)
    ]
    return CodeFacts(
        modules=len(texts),
        median_lines=round(median(lines)),
        lines=sum(lines),
        modules_with_one_importer=sum(len(others) == 1 for others in importers.values()),
        imports_into_kinds_from_below=len(into_kinds) if (root / KINDS).is_dir() else None,
    )


def _modules(root: Path) -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if path.name != "__init__.py" and not {"versions", "migrations"} & set(path.parts):
                yield ".".join(path.relative_to(root).with_suffix("").parts), path.read_text("utf-8")


def _imports(tree: ast.AST, modules: Mapping[str, object]) -> Iterator[str]:
    """Yield the modules that the tree imports or names; `from package import module` counts as the module."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(source), names=names, level=0):
                parts = [f"{source}.{each.name}" for each in names]
                yield from {part if part in modules else source for part in parts} & modules.keys()
            case ast.Import(names=names):
                yield from {each.name for each in names} & modules.keys()
            case ast.Constant(value=str(text)) if match := _NAMED.fullmatch(text):
                yield from {match[1]} & modules.keys()


def _package(module: str) -> str:
    return module.partition(".")[0]


def facts_of_revision(revision: str) -> CodeFacts:
    """Return the facts of a commit, which is unpacked into a temporary folder."""
    archive = subprocess.run(
        ["git", "-C", str(HERE), "archive", "--format=tar", revision], capture_output=True, check=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        return code_facts(Path(folder))


def print_table(columns: Mapping[str, CodeFacts]) -> None:
    """Print a table with one line for each fact and one column for each checkout."""
    rows = {name: asdict(facts) for name, facts in columns.items()}
    print(f"{'':32}" + "".join(f"{name[:14]:>16}" for name in rows))
    for fact in next(iter(rows.values())):
        values = ["-" if row[fact] is None else f"{row[fact]:,}" for row in rows.values()]
        print(f"{fact.replace('_', ' '):32}" + "".join(f"{value:>16}" for value in values))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the facts side by side and store them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="REVISION", nargs="+", default=[], help="commits to count, too")
    revisions: list[str] = parser.parse_args(arguments).against
    columns = {revision: facts_of_revision(revision) for revision in revisions}
    columns["checkout"] = code_facts(HERE)
    print_table(columns)
    print(write_result("code_facts", {name: asdict(facts) for name, facts in columns.items()}))


if __name__ == "__main__":
    main()
