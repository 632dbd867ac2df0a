"""Option groups: dataclasses whose fields are options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command in a form that Typer accepts.

    Each parameter of the command whose type is a dataclass is replaced by options for the fields of the
    dataclass. The command gets the dataclass with their values.
    """
    parameters = list(inspect.signature(command, eval_str=True).parameters.values())
    groups = {
        each.name: each.annotation
        for each in parameters
        if isinstance(each.annotation, type) and is_dataclass(each.annotation)
    }

    @wraps(command)
    def with_groups(**options: Any) -> None:
        values = {
            name: group(**{field.name: options.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**options, **values)

    with_groups.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # read by typer
        [
            option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for each in parameters
            for option in (_options_of(groups[each.name]) if each.name in groups else [each])
        ]
    )
    return with_groups


def _options_of(group: type[Any]) -> Iterator[inspect.Parameter]:
    """Yield a parameter for each field of an option group."""
    types = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[field.name]
        )
