"""Nothing below `kinds/` knows a kind: no import, no literal, no table, no word of what a kind is about."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("jobs", "db", "storage", "workers", "pressroom")

WORDS = {
    *("article", "mention", "watchlist", "monitor", "catalogue", "recommendation", "recommender"),
    *("refresh", "sentiment", "alert", "headline", "mood"),
}
"""What the kinds that come with Pressroom are about, in the singular and as one word."""

ALLOWED = {
    # Which columns of a table hold a document: a file of news calls its text "article".
    "jobs/intake/columns.py": {"article", "headline"},
    # What models say around a text that they were asked for, and what documents say around theirs.
    "jobs/text/repair.py": {"article", "mention"},
    # A tag of HTML.
    "jobs/text/plain.py": {"article"},
    "pressroom/default_export/pages/results.html.jinja": {"article"},
    # The part of speech.
    "jobs/text/prose.py": {"article"},
    # Names of settings of other programs.
    "storage/s3_faults.py": {"refresh"},
    # Profiles that are there without settings, and a model, have such names.
    "workers/settings.py": {"sentiment", "recommendation"},
    # A code of an error, which is stable.
    "workers/delivery.py": {"alert"},
    # The catalogue of models.
    "workers/models/catalogue.py": {"catalogue"},
    "workers/models/install.py": {"catalogue"},
    "pressroom/commands/models.py": {"catalogue"},
}
"""Where a word means something else, or must stand."""


def modules(*suffixes: str) -> Iterator[tuple[str, str]]:
    """Path, from the root, and text of every file below the kinds."""
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*")):
            if path.suffix in suffixes and "versions" not in path.parts:
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def words_of(text: str) -> set[str]:
    """Words in the singular; identifiers fall into their parts, and "watch list" is one word.

    >>> sorted(words_of("monitor_id, ArticleKind: Watch lists"))
    ['article', 'id', 'kind', 'monitor', 'watchlist']
    """
    text = re.sub(r"(?i)\bwatch[ _-]?list", "watchlist", text)
    found = {each.lower() for each in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)}
    return {WORD_OF.get(each, each) for each in found}


WORD_OF = {plural: word for word in WORDS for plural in (f"{word}s", f"{word}es")}


def names_a_kind(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every import of a kind, and of every string that names a module of one."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), level=0) if module.partition(".")[0] == "kinds":
                yield node.lineno, module
            case ast.Import(names=names):
                yield from (
                    (node.lineno, each.name) for each in names if each.name.partition(".")[0] == "kinds"
                )
            case ast.Constant(value=str(text)) if name := re.search(r"(?<![\w/])kinds\.[a-z_]+", text):
                yield node.lineno, name[0]


def literals_compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every comparison of a kind or a stage with a literal, also in a pattern."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=others):
                sides = [left, *others]
                if any(_is_subject(side) for side in sides) and any(_is_literal(side) for side in sides):
                    yield node.lineno, ast.unparse(node)
            case ast.Match(subject=subject, cases=cases) if _is_subject(subject):
                if any(isinstance(each, ast.MatchValue) for case in cases for each in ast.walk(case.pattern)):
                    yield node.lineno, ast.unparse(subject)


_SUBJECT = re.compile(r"(?:\w*_)?(?:kind|stage)(?:_name)?")


def _is_subject(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr="name"):
            return bool(_SUBJECT.fullmatch(name))
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return bool(_SUBJECT.fullmatch(name))
    return False


def _is_literal(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=str()):
            return True
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            return any(_is_literal(part) for part in parts)
        case ast.Call(args=[first, *_]):  # frozenset({...})
            return _is_literal(first)
    return False


def test_no_module_below_the_kinds_imports_or_names_one() -> None:
    found = {
        f"{path}:{line} {name}"
        for path, text in modules(".py")
        for line, name in names_a_kind(ast.parse(text))
    }
    assert not found


def test_no_module_below_the_kinds_compares_a_kind_or_a_stage_with_a_literal() -> None:
    found = [
        f"{path}:{line} {comparison}"
        for path, text in modules(".py")
        for line, comparison in literals_compared(ast.parse(text))
    ]
    assert not found


def test_no_file_below_the_kinds_has_a_word_of_theirs() -> None:
    found = {
        path: words
        for path, text in modules(".py", ".jinja", ".html")
        if (words := (words_of(text) & WORDS) - ALLOWED.get(path, set()))
    }
    assert not found


def test_allowed_words_are_still_there() -> None:
    texts = dict(modules(".py", ".jinja", ".html"))
    stale = {
        path: words - words_of(texts.get(path, ""))
        for path, words in ALLOWED.items()
        if words - words_of(texts.get(path, ""))
    }
    assert not stale


@pytest.mark.parametrize(
    "source",
    [
        "from kinds.article import kind",
        "import kinds.article.kind as own",
        "def f():\n    from kinds import article",
        "import_module('kinds.article.kind')",
        "COMMAND = ['-m', 'kinds.classifier.training.child']",
    ],
)
def test_each_way_to_name_a_kind_is_seen(source: str) -> None:
    assert list(names_a_kind(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "kind == 'article'",
        "batch.kind != 'article'",
        "'article' == job.kind",
        "stage.name in ('a', 'b')",
        "self._stage_name not in {'a'}",
        "match batch.kind:\n    case 'article' | 'other':\n        pass",
    ],
)
def test_each_way_to_compare_a_kind_with_a_literal_is_seen(source: str) -> None:
    assert list(literals_compared(ast.parse(source)))


TABLES = """
import importlib, json, pkgutil
import db
for module in pkgutil.walk_packages(db.__path__, "db."):
    if not module.name.startswith("db.migrations"):
        importlib.import_module(module.name)
from db.tables import Base
print(json.dumps({
    mapper.local_table.name: [
        mapper.class_.__module__,
        *[each.name for each in (*mapper.local_table.columns, *mapper.local_table.indexes)],
    ]
    for mapper in Base.registry.mappers
}))
"""


def test_tables_below_the_kinds_are_the_cores_alone() -> None:
    """In a process of its own: other tests load kinds, and with them their tables."""
    done = subprocess.run(
        [sys.executable, "-c", TABLES], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    tables: dict[str, list[str]] = json.loads(done.stdout)
    assert {"batches", "jobs", "stages", "attempts"} <= tables.keys()
    assert {module.partition(".")[0] for module, *_ in tables.values()} == {"db"}
    for name, (_, *parts) in tables.items():
        assert not words_of(" ".join([name, *parts])) & WORDS, name
