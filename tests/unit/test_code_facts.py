"""The facts of size that benchmarks/code_facts.py prints, counted in a tree that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.code_facts import HERE, CodeFacts, code_facts

TREE = {
    "jobs/__init__.py": '"""The vocabulary."""\n',
    "jobs/job.py": "A = 1\n",
    "jobs/kind.py": "from jobs.job import A\n" * 3,
    "db/versions/first.py": "import jobs.job\n",
    "workers/run.py": "from jobs import job\n\n\n\nimport jobs.kind\n",
    "pressroom/cli.py": "C = 'kinds.article.commands:run'\n\ndef f():\n    from kinds.article import kind\n",
    "kinds/article/kind.py": "import jobs.kind\n",
    "kinds/article/commands.py": "\n" * 9,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_each_way_to_import_a_kind_from_below_is_counted(tree: Path) -> None:
    assert code_facts(tree) == CodeFacts(
        modules=6, median_lines=4, lines=23, modules_with_one_importer=2, imports_into_kinds_from_below=2
    )


def test_checkout_without_folders_of_kinds_has_no_count_of_imports_into_them(tree: Path) -> None:
    (tree / "kinds").rename(tree / "elsewhere")
    assert code_facts(tree).imports_into_kinds_from_below is None


def test_nothing_below_the_kinds_imports_one() -> None:
    assert code_facts(HERE).imports_into_kinds_from_below == 0
