"""The kinds that are installed: Pressroom's own and those of other packages, by entry point."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from jobs.errors import ConfigurationError

if TYPE_CHECKING:
    from jobs.kind import Kind

logger = logging.getLogger(__name__)

GROUP = "pressroom.kinds"


def kind_names() -> list[str]:
    """Names of all installed kinds."""
    return sorted(entry_points(group=GROUP).names)


@cache
def load_kind(name: str) -> Kind[Any]:
    """The kind of this name, made once a process. Raises ConfigurationError if none is installed."""
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise ConfigurationError(
            f"no kind is named {name!r}: installed are {', '.join(kind_names()) or 'none'}",
            code="kind_unknown",
        )
    kind: Kind[Any] = next(iter(found)).load()()
    return kind


def load_kinds() -> dict[str, Kind[Any]]:
    """All that are installed, by name: what they import takes seconds, which no job shall wait for.

    One that cannot be loaded is logged, and fails its own jobs later.
    """
    kinds: dict[str, Kind[Any]] = {}
    for name in kind_names():
        try:
            kinds[name] = load_kind(name)
        except Exception:
            logger.warning("A kind cannot be loaded.", exc_info=True, extra={"kind": name})
    return kinds


def load_target(target: str) -> Any:
    """What a facet names as MODULE:ATTRIBUTE. Raises ConfigurationError (`target_unknown`).

    >>> load_target("posixpath:join")("a", "b")
    'a/b'
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # whatever the import of another's module raises
        raise ConfigurationError(
            f"{target!r} cannot be loaded ({type(error).__name__}: {error}): correct what names it, as "
            "MODULE:ATTRIBUTE, or install what it needs",
            code="target_unknown",
        ) from error
