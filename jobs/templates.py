"""Renders third-party Jinja2 templates in a sandbox that limits their work.

Jinja2's own sandbox keeps a template away from Python's internals, but does not limit memory and time. Here,
each rendering has a budget. Every character written, every element created, compared or copied, every
iteration of a loop and every call is charged to the budget in advance. Its limit therefore also limits
output, memory, iterations and time. Integers and the depth of nesting have separate limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from math import isinf
from typing import Any, TypeVar

import jinja2
from jinja2 import nodes, pass_eval_context
from jinja2.compiler import CodeGenerator, Frame, operators
from jinja2.exceptions import SecurityError
from jinja2.filters import do_join
from jinja2.nodes import EvalContext
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace

MAX_SOURCE_CHARACTERS = 256 * 1024
"""Maximum length of a template: ten times the longest known chat template."""
BASE_WORK = 1_000_000
"""Budget of a rendering, in characters and elements. Using it up takes at most about two seconds."""
CALL_WORK = 20
"""Cost of a call to a macro, a method, a filter or a test, as the number of characters that can be processed
in the same time."""
TURN_WORK = 10
"""Cost of one iteration of a loop, as the number of characters that can be processed in the same time."""
WORK_PER_CHARACTER = 32
"""Additional budget for each character of the variables, because long texts may pass through many filters."""
MAX_INTEGER = 2**63
"""Limit that the absolute value of an integer must not reach. No text needs larger integers, and the cost of
multiplying smaller ones is negligible."""
MAX_DEPTH = 40
"""Maximum depth of nested calls to macros, blocks and recursive loops, and of nested lists."""
MAX_ARGUMENT = 10_000
"""Maximum value of an argument that is a width, a count or a precision."""
MAX_MESSAGE_CHARACTERS = 300
"""Maximum length of an error's message, which may quote a value."""

ITERATE = " iterate"
"""Name of the filter that wraps the iterable of a loop. It begins with a space, so that templates cannot use
it."""

CONTAINER_METHODS = frozenset({"copy", "count", "get", "index", "items", "keys", "values"})
UNBOUNDED_METHODS = frozenset({"encode", "expandtabs", "translate"})
"""String methods that are not allowed, because their results are longer than their arguments suggest, or are
not text."""

_WIDE_FORMAT = re.compile(r"\d{5}|\*|\{[^{}]*\{")
"""Matches what format strings may not contain: a width of five digits, a width given as an argument, or a
field within a field's specification."""

ResultT = TypeVar("ResultT")


class TemplateTooLargeError(SecurityError):
    """A rendering exceeds one of its limits."""


@dataclass(slots=True)
class _Budget:
    """The remaining budget of one rendering."""

    limit: int
    left: int
    depth: int = 0
    variables: Mapping[str, object] | None = None
    """Variables whose allowance is not yet part of the budget."""

    def charge(self, units: int) -> None:
        """Subtract the units from the budget. Raises TemplateTooLargeError if the budget is used up."""
        self.left -= units
        if self.left < 0:
            self.check()

    def check(self) -> None:
        """Raise TemplateTooLargeError if the budget is exceeded even with the allowance for the variables."""
        if not self.affords(0):
            raise TemplateTooLargeError(
                f"its characters and steps exceed the limit of {self.limit:,} in total: make its text or "
                "loops shorter"
            )

    def affords(self, units: int) -> bool:
        """Return whether that many units are left.

        The allowance for the variables is added only if the base budget does not suffice, which is rare.
        """
        if units > self.left and self.variables is not None:
            variables, self.variables = self.variables, None
            allowance = WORK_PER_CHARACTER * _weight(variables, _Budget(_UNLIMITED, _UNLIMITED))
            self.limit += allowance
            self.left += allowance
        return units <= self.left

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Enter one level of nesting during the block. Raises TemplateTooLargeError beyond MAX_DEPTH."""
        if self.depth >= MAX_DEPTH:
            raise TemplateTooLargeError(
                f"its macros, blocks or loops call each other more than {MAX_DEPTH} levels deep"
            )
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1


_UNLIMITED = 2**62

_budget: ContextVar[_Budget] = ContextVar("budget")


@contextmanager
def bounded(variables: Mapping[str, object] | None = None) -> Iterator[None]:
    """Give the block, which renders or compiles a template, a new budget for all its work.

    Compilation needs a budget too, because it evaluates constants.
    """
    token = _budget.set(_Budget(BASE_WORK, BASE_WORK, variables=variables or None))
    try:
        yield
    finally:
        _budget.reset(token)


def fault_of(error: Exception) -> str:
    """Describe what is wrong with a template that raised this error, with the line if it is known."""
    if isinstance(error, RecursionError):
        sentence = "it is nested too deep"
    elif isinstance(error, SyntaxError):  # in the Python code that Jinja2 generated
        sentence = f"it is nested too deep: {error.msg}"
    elif isinstance(error, jinja2.TemplateSyntaxError):
        sentence = error.message or "it is not valid Jinja2"
    elif isinstance(error, MemoryError):
        sentence = "it takes too much memory"
    else:
        sentence = str(error) or type(error).__name__
    if len(sentence) > MAX_MESSAGE_CHARACTERS:
        sentence = f"{sentence[:MAX_MESSAGE_CHARACTERS]}..."
    line = _line_of(error)
    return sentence if line is None else f"line {line}: {sentence}"


def _line_of(error: Exception) -> int | None:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    line, trace = None, error.__traceback__
    while trace is not None:
        names = trace.tb_frame.f_globals
        if isinstance(template := names.get("__jinja_template__"), jinja2.Template):
            line = template.get_corresponding_lineno(trace.tb_lineno)
        elif "__jinja_exception__" in names:  # a frame that Jinja2 made, with the template's line
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _weight(value: object, budget: _Budget, depth: int = 0) -> int:
    """Return the number of characters and elements in the value, which copying or printing it would cost.

    Counting stops as soon as the result exceeds the rest of the budget.
    """
    if isinstance(value, str | bytes):
        return len(value) + 1
    if value is None or isinstance(value, int | float):
        return 1
    if isinstance(value, Namespace):
        value = object.__getattribute__(value, "_Namespace__attrs")
    elif isinstance(value, range):
        return len(value) + 1
    elif isinstance(value, Cycler):
        value = value.items
    parts: Iterable[object]
    if isinstance(value, _COLLECTIONS):
        parts = value
    elif isinstance(value, Mapping):
        parts = (part for pair in value.items() for part in pair)
    else:
        return 1
    if depth >= MAX_DEPTH:
        raise TemplateTooLargeError(f"its lists are nested more than {MAX_DEPTH} levels deep")
    total = 1
    for part in parts:
        total += _weight(part, budget, depth + 1)
        if total > budget.left and not budget.affords(total):
            break
    return total


_COLLECTIONS: tuple[type[Iterable[object]], ...] = (
    *(list, tuple, set, frozenset),
    *(type({}.keys()), type({}.values()), type({}.items())),
)


def _charged(value: ResultT) -> ResultT:
    budget = _budget.get()
    budget.charge(len(value) if isinstance(value, str) else _weight(value, budget))
    return value


class _Iteration:
    """Wraps the iterable of a loop, and charges for each iteration."""

    def __init__(self, iterable: Iterable[object]) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[object]:
        charge = _budget.get().charge
        for item in self._iterable:
            charge(TURN_WORK)
            yield item

    def __bool__(self) -> bool:
        return True  # as for a generator, whose items are not known in advance

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]


class _Generator(CodeGenerator):
    """Generates code that also charges for work that an environment cannot intercept.

    This includes literal text, `~`, comparisons, slices, and literal lists, tuples and dicts.
    """

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"environment.charged({super()._output_const_repr(group)})"

    @contextmanager
    def _charged(self) -> Iterator[None]:
        self.write("environment.charged(")
        yield
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("str_join((")
        for part in node.nodes:
            with self._charged():
                self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        self.write("(")
        with self._charged():
            self.visit(node.expr, frame)
        for operand in node.ops:
            self.visit(operand, frame)
        self.write(")")

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:
        self.write(f" {operators[node.op]} ")
        with self._charged():
            self.visit(node.expr, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        with self._charged():
            super().visit_Getitem(node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        with self._charged():
            super().visit_List(node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "store":
            super().visit_Tuple(node, frame)
            return
        with self._charged():
            super().visit_Tuple(node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        with self._charged():
            super().visit_Dict(node, frame)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The Jinja2 environment for third-party templates. Compile and render them only within `bounded`."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})
    charged = staticmethod(_charged)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, optimized=False, autoescape=False, finalize=_charged)
        filters: Mapping[str, Any] = self.filters
        filters = {**filters, "join": _join}
        kept = {name: bounded_filter(filters[name], cost) for name, cost in _FILTER_COSTS.items()}
        self.filters = {**kept, ITERATE: _Iteration}
        tests: Mapping[str, Any] = self.tests
        self.tests = {
            name: bounded_filter(test, charge_parts if name in _COSTLY_TESTS else _one)
            for name, test in tests.items()
        }
        self.globals.pop("lipsum")

    def keep_filters(self, names: Iterable[str]) -> None:
        """Remove all filters except these."""
        self.filters = {name: self.filters[name] for name in (*names, ITERATE)}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_SOURCE_CHARACTERS:
            raise TemplateTooLargeError(f"it is longer than {MAX_SOURCE_CHARACTERS:,} characters")
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(nodes.Node):
            _check_node(node)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(
                loop.iter, ITERATE, [], [], None, None, lineno=loop.lineno, environment=self
            )
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Charge for the operation, and then compute it."""
        budget = _budget.get()
        if isinstance(left, int | float) and isinstance(right, int | float):
            budget.charge(1)
            if operator == "**" and abs(right) > 64 and abs(left) > 1:
                raise TemplateTooLargeError("it raises a number to a power above 64")
            return _checked_number(super().call_binop(context, operator, left, right))
        weights = _weight(left, budget), _weight(right, budget)
        if operator == "*":
            times = [number for number in (left, right) if isinstance(number, int)]
            budget.charge(max(0, *times, 1) * max(weights))
        elif operator == "%" and isinstance(left, str):
            _charge_format(left, (right,))
        budget.charge(sum(weights))
        return super().call_binop(context, operator, left, right)

    def is_safe_callable(self, obj: object) -> bool:
        """Return whether a template may call the object.

        It may call the environment's globals, its own macros and blocks, and methods whose cost is known.
        """
        if isinstance(obj, Macro | BlockReference | LoopContext | Joiner | Undefined):
            return True
        if any(obj is known for known in self.globals.values()):
            return True
        owner, name = _method(obj)
        if isinstance(owner, str):
            return name not in UNBOUNDED_METHODS
        return isinstance(owner, LoopContext | Cycler) or (
            isinstance(owner, dict | list | tuple) and name in CONTAINER_METHODS
        )

    def call(
        __self,
        __context: Context,
        __obj: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Charge for the call, check its depth, and make it."""
        if not __self.is_safe_callable(__obj):
            raise SecurityError(f"{_method(__obj)[1] or type(__obj).__name__} cannot be called in a template")
        budget = _budget.get()
        budget.charge(CALL_WORK)
        if isinstance(__obj, Macro | BlockReference | LoopContext):
            budget.charge(len(args) + len(kwargs))  # `m(*list)` copies the list
            if isinstance(__obj, LoopContext):
                args = tuple(map(_Iteration, args))
            with budget.deeper():
                return super().call(__context, __obj, *args, **kwargs)
        owner, name = _method(__obj)
        given = (*args, *(value for key, value in kwargs.items() if not key.startswith("_")))
        if isinstance(owner, str):
            _charge_method(owner, name, given)
        elif not isinstance(owner, dict) or name == "copy":
            budget.charge(sum(_weight(value, budget) for value in (owner, *given)))
        return super().call(__context, __obj, *args, **kwargs)


def _method(obj: object) -> tuple[object, str]:
    """Return the owner and the name of a method, even of `str.format`, which the sandbox wraps."""
    method = getattr(obj, "__wrapped__", obj)
    return getattr(method, "__self__", None), getattr(method, "__name__", "")


_OF_OTHERS: Mapping[type[nodes.Node], str] = {
    nodes.Extends: "extends",
    nodes.FromImport: "imports from",
    nodes.Import: "imports",
    nodes.Include: "includes",
}
"""Statements by which a template uses another one, with the verb for error messages."""


def _check_node(node: nodes.Node) -> None:
    """Check one node of a template.

    Raises TemplateTooLargeError for a number that is too large, and jinja2.TemplateSyntaxError for a
    statement that uses another template.
    """
    if isinstance(node, nodes.Const):
        _checked_number(node.value)
        if isinstance(node.value, float) and isinf(node.value):
            raise TemplateTooLargeError("it contains a number that is too large for a float")
    elif verb := _OF_OTHERS.get(type(node)):
        other = node.template  # type: ignore[attr-defined]
        name = repr(other.value) if isinstance(other, nodes.Const) else "another template"
        sentence = f"it {verb} {name}, but a template cannot use another one: copy its content into this one"
        raise jinja2.TemplateSyntaxError(sentence, node.lineno)


def _checked_number(number: ResultT) -> ResultT:
    if isinstance(number, int) and abs(number) >= MAX_INTEGER:
        raise TemplateTooLargeError("it computes an integer of more than 63 bits")
    return number


def _charge_method(text: str, name: str, given: tuple[object, ...]) -> None:
    budget = _budget.get()
    if name in ("format", "format_map"):
        _charge_format(text, given)
    elif name == "replace" and len(given) > 1:
        _charge_replacement(text, given[0], given[1])
    elif name == "join" and given:
        budget.charge((len(text) + 1) * _weight(given[0], budget))
    else:
        numbers = sum(abs(value) for value in given if isinstance(value, int))
        budget.charge(len(text) + numbers + sum(_weight(value, budget) for value in given))


def _charge_replacement(text: object, old: object, new: object) -> None:
    whole, part = str(_charged(text)), str(_charged(old))
    _budget.get().charge((whole.count(part) + 1) * (len(str(_charged(new))) + 1))


def _charge_format(form: str, given: tuple[object, ...]) -> None:
    """Charge for formatting. No field is longer than its width and all arguments together."""
    budget = _budget.get()
    if _WIDE_FORMAT.search(form):
        raise TemplateTooLargeError("it formats with a width that is passed as an argument or is above 9999")
    num_fields = form.count("%") + form.count("{")
    budget.charge(len(form) + num_fields * (MAX_ARGUMENT + sum(_weight(value, budget) for value in given)))


Cost = Callable[..., None]
"""Function that charges for a call to a filter or a test in advance, given the budget, the value and the
arguments."""


def bounded_filter(function: Callable[..., Any], cost: Cost) -> Callable[..., Any]:
    """Wrap a filter or test, so that its work is charged before each call, and its result afterwards."""
    offset = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def charged(*args: Any, **kwargs: Any) -> Any:
        budget = _budget.get()
        budget.charge(CALL_WORK)
        cost(budget, *args[offset:], **kwargs)
        result = function(*args, **kwargs)
        if isinstance(result, str):
            budget.charge(len(result))
        elif isinstance(result, Generator):
            return _Iteration(result)
        elif result is not True and result is not False:
            _flat(budget, result)
        return _checked_number(result)

    return charged


def _one(_: _Budget, *__: object, **___: object) -> None:
    """Charge nothing beyond CALL_WORK, for a call that takes the same time for any value."""


def _flat(budget: _Budget, value: object, *_: object, **__: object) -> None:
    """Charge for iterating over a value once, without going into its elements."""
    budget.charge(len(value) + 1 if isinstance(value, str | list | tuple | dict | range) else 1)


def charge_parts(budget: _Budget, *values: object, **named: object) -> None:
    """Charge for printing or comparing values, including all nested elements."""
    for value in values:
        budget.charge(_weight(value, budget))
    for value in named.values():
        budget.charge(_weight(value, budget))


def charge_json(budget: _Budget, value: object, *arguments: object, **named: object) -> None:
    """Charge for `tojson`, which may write its indentation once for each element of the value."""
    given = (*arguments, *named.values())
    widths = [argument if isinstance(argument, int) else len(str(argument)) for argument in given]
    budget.charge(_weight(value, budget) * max(1, *widths, 1))


def _numbered(budget: _Budget, *arguments: object, **named: object) -> None:
    """Charge for a filter with arguments that are widths, counts or precisions."""
    charge_parts(budget, *arguments, **named)
    for argument in (*arguments[1:], *named.values()):
        if isinstance(argument, int) and abs(argument) > MAX_ARGUMENT:
            raise TemplateTooLargeError(f"it gives a filter a number above {MAX_ARGUMENT:,}")
        budget.charge(abs(argument) if isinstance(argument, int) else 0)


def _of_lines(budget: _Budget, value: object, width: object = 4, *rest: object, **named: object) -> None:
    """Charge for `indent`, which writes its width once per line."""
    _numbered(budget, value, width, *rest, **named)
    size = width if isinstance(width, int) else len(str(width))
    budget.charge(str(value).count("\n") * max(size, 0))


def _of_format(budget: _Budget, value: object, *arguments: object, **named: object) -> None:
    charge_parts(budget, value)
    _charge_format(str(value), (*arguments, *named.values()))


def _of_replacement(_: _Budget, value: object, old: object, new: object, *__: object, **___: object) -> None:
    _charge_replacement(value, old, new)


def _of_sum(budget: _Budget, value: object, attribute: object = None, start: object = 0) -> None:  # noqa: ARG001
    """Charge for `sum`, which adds only numbers. Raises TypeError for a start value that is not a number.

    Adding lists would copy each list once for every list after it.
    """
    if not isinstance(start, int | float):
        raise TypeError("sum takes numbers only")
    _flat(budget, value)


@pass_eval_context
def _join(context: EvalContext, value: Any, d: str = "", attribute: str | None = None) -> str:
    """Join like Jinja2's filter. A generator is collected first, so that all its items can be charged."""
    parts = value if isinstance(value, str | list | tuple | dict | Undefined) else list(value)
    count = 0 if isinstance(parts, Undefined) else len(_charged(parts))
    _budget.get().charge(count * len(str(_charged(d))))
    return str(do_join(context, parts, d, attribute))


_FILTER_COSTS: Mapping[str, Cost] = {
    **dict.fromkeys(("attr", "count", "d", "default", "first", "last", "length"), _one),
    **dict.fromkeys(("items", "list", "map", "reverse"), _flat),
    **dict.fromkeys(("reject", "rejectattr", "select", "selectattr"), _flat),
    **dict.fromkeys(("capitalize", "lower", "title", "trim", "upper", "wordcount"), charge_parts),
    **dict.fromkeys(("abs", "e", "escape", "float", "int", "safe", "string", "striptags"), charge_parts),
    **dict.fromkeys(("dictsort", "groupby", "max", "min", "sort", "unique"), charge_parts),
    **dict.fromkeys(("batch", "center", "round", "slice", "truncate"), _numbered),
    "format": _of_format,
    "indent": _of_lines,
    "join": _one,
    "replace": _of_replacement,
    "sum": _of_sum,
    "tojson": charge_json,
}
"""Costs of Jinja2's filters whose work can be estimated in advance. The other filters are removed."""

_COSTLY_TESTS = frozenset(
    {"!=", "<", "<=", "==", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan"}
    | {"lower", "lt", "ne", "upper"}
)
"""Names of tests whose time depends on the size of the value."""
