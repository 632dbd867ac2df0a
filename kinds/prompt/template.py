"""The prompt template of a batch: its blocks, the columns that it reads, and the text of a row's turns.

A template without blocks is the user's turn. A template with blocks has the blocks `user` and, optionally,
`system`. Columns are variables; a column whose name is no variable is read as row["the name"].
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext

from jobs.inference import Message
from jobs.kind import Template
from jobs.prompt_template import (
    PromptEnvironment,
    PromptTemplate,
    TemplateError,
    TemplateUnsafeError,
)
from jobs.provenance import sha256_hex
from jobs.rejection import quoted
from jobs.templates import bounded, fault_of

ROW = "row"
"""Variable that contains all columns of the row by name."""

BLOCKS = ("system", "user")
"""Blocks that a template may have, in the order of the turns."""

_SPECIAL = frozenset({ROW, "self", "super", "caller", "varargs", "kwargs", "loop"})
"""Names with a meaning of their own in templates."""

_CONSTANTS = frozenset({"true", "false", "none", "True", "False", "None"})
_KEYWORDS = _CONSTANTS | {"and", "else", "if", "in", "is", "not", "or"}
"""Names that Jinja does not read as variables in an expression."""

_PRINTED = re.compile(r"\{\{[-+]?\s*([^{}|]+?)\s*(?:\||[-+]?\}\})")
"""Matches what an expression begins with, up to its first filter or its end."""

_MAX_COMPARED = 60
_MAX_LISTED = 20


class UnknownVariableError(TemplateError):
    """The template uses a variable that is not a column of the table."""

    code = "template_unknown_variable"


def printed(value: object) -> object:
    """Return a value as templates print it: nothing for None, and JSON for what is neither text nor number.

    >>> printed(None), printed(True), printed(["a", 1]), printed(2.5)
    ('', 'true', '["a", 1]', 2.5)
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value


class _RowEnvironment(PromptEnvironment):
    """An environment whose templates read columns, and members of lists and objects, but no attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.finalize = lambda value: self.charged(printed(value))

    def getattr(self, obj: object, attribute: str) -> object:
        """Return an attribute of a loop. Raises SecurityError for any other."""
        if isinstance(obj, LoopContext):
            return super().getattr(obj, attribute)
        raise SecurityError(f'it reads the attribute {attribute!r}: write ["{attribute}"] for a member')

    def getitem(self, obj: object, argument: object) -> object:
        """Return a member of a list, a text or an object; never an attribute, unlike Jinja2 itself."""
        try:
            return obj[argument]  # type: ignore[index]
        except (LookupError, TypeError):
            return self.undefined(obj=obj, name=str(argument))


@dataclass(frozen=True, slots=True)
class RowTemplate:
    """A compiled template of a batch. Any thread may render it."""

    identity: Template
    names: frozenset[str]
    """Variables that the template reads, including `row` if it reads columns by their names."""
    columns: frozenset[str]
    """Columns that the template reads by literal names, as variables or through `row`."""
    _turns: tuple[tuple[PromptTemplate, str], ...]
    """For each turn, the template and the name of its block, which is also its role."""

    def messages(self, row: Mapping[str, object]) -> tuple[Message, ...]:
        """Return the turns of a row; a turn without text is left out.

        Raises TemplateError, also for a row whose user's turn is empty.
        """
        variables = {name: row.get(name) for name in self.names}
        if ROW in variables:
            variables[ROW] = {**dict.fromkeys(self.columns), **row}
        messages = []
        for template, block in self._turns:
            text = template.render(block, variables)
            if text:
                messages.append(Message("system" if block == "system" else "user", text))
        if not messages or messages[-1].role != "user":
            raise TemplateError(f"template {self.identity.name}: the prompt of this row is empty")
        return tuple(messages)

    def check(self, columns: Sequence[str]) -> None:
        """Check the template against the columns of a table, and render it once for a row of empty cells.

        Raises UnknownVariableError, TemplateUnsafeError or TemplateUnboundedError.
        """
        unknown = sorted(self.names - {ROW} - set(columns)) + sorted(self.columns - self.names - set(columns))
        if unknown:
            raise UnknownVariableError(_unknown_sentence(self.identity.name, unknown, columns))
        try:
            self.messages(dict.fromkeys(columns))
        except TemplateUnsafeError:
            raise
        except TemplateError:  # the template may need values
            return


@lru_cache(maxsize=64)
def row_template(name: str, source: str, system: str | None) -> RowTemplate:
    """Compile the templates of a batch. Raises TemplateError, also for blocks and attributes that it refuses.

    `system` is the source of a separate template for the system's turn.
    """
    template, blocks = _compiled(name, source, "user")
    turns = [(template, block) for block in BLOCKS if block in blocks]
    trees = [_parsed(name, source)]
    if system is not None:
        own, own_blocks = _compiled(f"{name}, system", system, "system")
        if "system" in blocks or own_blocks != {"system"}:
            raise TemplateError(
                f"template {name} has two system turns: remove the block `system`, or the separate template"
            )
        turns.insert(0, (own, "system"))
        trees.append(_parsed(name, system))
    if turns[-1][1] != "user":
        raise TemplateError(f"template {name} has no block `user`: add {{% block user %}}")
    names = frozenset().union(*map(_variables, trees))
    columns = frozenset(column for tree in trees for column in _columns_by_name(tree))
    return RowTemplate(template.identity, names, names - {ROW} | columns, tuple(turns))


def check_names(name: str, sources: Iterable[str | None], columns: Iterable[str]) -> None:
    """Refuse a template that prints a column by a bare name that Jinja reads as something else.

    This is checked before the template is compiled, so that the message tells what to write. Raises
    UnknownVariableError.
    """
    special = {each for each in columns if not is_variable(each)}
    for source in sources:
        for match in _PRINTED.finditer(source or "") if special else ():
            if (column := match[1]) in special:
                line = (source or "").count("\n", 0, match.start()) + 1
                raise UnknownVariableError(
                    f"template {name}, line {line}: the column {quoted(column)} is no variable in Jinja: "
                    f"write {{{{ row[{json.dumps(column, ensure_ascii=False)}] }}}}"
                )


def is_variable(column: str) -> bool:
    """Return whether a template can read a column as a variable.

    >>> is_variable("name"), is_variable("the name"), is_variable("if"), is_variable("row")
    (True, False, False, False)
    """
    return column.isidentifier() and column not in _KEYWORDS and column not in _SPECIAL


def _compiled(name: str, source: str, role: str) -> tuple[PromptTemplate, set[str]]:
    """Return the compiled template and its blocks; a source without blocks becomes the block `role`."""
    tree = _parsed(name, source)
    _check_tree(name, tree)
    blocks = {block.name for block in tree.find_all(nodes.Block)}
    if unknown := sorted(blocks - set(BLOCKS)):
        raise TemplateError(
            f"template {name} has the block {unknown[0]!r}: its blocks may be {' and '.join(BLOCKS)}"
        )
    if blocks and (line := _line_of_lost_text(tree)) is not None:
        raise TemplateError(
            f"template {name}, line {line}: this text is outside the blocks: move it into one of them"
        )
    wrapped = source if blocks else f"{{% block {role} %}}{source}{{% endblock %}}"
    template = PromptTemplate.compile(name, "1", wrapped, _RowEnvironment)
    identity = replace(template.identity, sha256=sha256_hex(source.encode()))
    return replace(template, identity=identity), blocks or {role}


def _parsed(name: str, source: str) -> nodes.Template:
    try:
        with bounded():
            return _RowEnvironment().parse(source)
    except Exception as error:
        kind = TemplateUnsafeError if isinstance(error, SecurityError) else TemplateError
        raise kind(f"template {name}, {fault_of(error)}") from error


def _check_tree(name: str, tree: nodes.Template) -> None:
    """Raise TemplateUnsafeError for attributes and for names that show the inside of the template."""
    for node in tree.find_all(nodes.Getattr):
        owner = node.node.name if isinstance(node.node, nodes.Name) else None
        if owner != "loop":
            member = f'{owner or "..."}["{node.attr}"]'
            raise TemplateUnsafeError(
                f"template {name}, line {node.lineno}: it reads the attribute {node.attr!r}, which templates "
                f"cannot do: write {member} for a member of an object"
            )
    for variable in tree.find_all(nodes.Name):
        if variable.name in ("self", "super"):
            raise TemplateUnsafeError(
                f"template {name}, line {variable.lineno}: it uses {variable.name!r}, which is no column"
            )


def _line_of_lost_text(tree: nodes.Template) -> int | None:
    """Return the line of the first text or expression outside the blocks, or None if there is none."""
    for output in (node for node in tree.body if isinstance(node, nodes.Output)):
        for part in output.nodes:
            if not isinstance(part, nodes.TemplateData) or part.data.strip():
                return part.lineno
    return None


def _variables(tree: nodes.Template) -> frozenset[str]:
    return frozenset(meta.find_undeclared_variables(tree))


def _columns_by_name(tree: nodes.Template) -> Iterator[str]:
    """Yield the columns that the template reads as row["the name"]."""
    for node in tree.find_all(nodes.Getitem):
        is_row = isinstance(node.node, nodes.Name) and node.node.name == ROW
        if is_row and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            yield node.arg.value


def _unknown_sentence(name: str, unknown: Sequence[str], columns: Sequence[str]) -> str:
    """Return the message that names each unknown variable with the nearest column."""
    meant = []
    for variable in unknown:
        nearest = nearest_column(variable, columns)
        meant.append(f"{quoted(variable)} (did you mean {quoted(nearest)}?)" if nearest else quoted(variable))
    listed = ", ".join(quoted(column) for column in columns[:_MAX_LISTED])
    more = f" and {len(columns) - _MAX_LISTED:,} more" if len(columns) > _MAX_LISTED else ""
    noun = "a variable that is no column" if len(unknown) == 1 else "variables that are no columns"
    return f"template {name} uses {noun}: {', '.join(meant)}; the columns are {listed}{more}"


def nearest_column(name: str, columns: Sequence[str]) -> str | None:
    """Return the column whose name is most like this one, without regard to case, or None.

    >>> nearest_column("descripton", ["name", "Description"]), nearest_column("x", ["name"])
    ('Description', None)
    """
    by_lower = {column[:_MAX_COMPARED].lower(): column for column in reversed(columns)}
    near = difflib.get_close_matches(name[:_MAX_COMPARED].lower(), list(by_lower), n=1)
    return by_lower[near[0]] if near else None
