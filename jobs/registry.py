"""Finds and loads the installed kinds, Pressroom's own and those of other packages, by entry point."""

from __future__ import annotations

import logging
import re
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.errors import ConfigurationError

if TYPE_CHECKING:
    from jobs.kind import Kind

logger = logging.getLogger(__name__)

GROUP = "pressroom.kinds"

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""Matches a valid name of a kind, which users type on the command line."""


def kind_names() -> list[str]:
    """Return the names of all installed kinds, sorted."""
    return sorted(entry_points(group=GROUP).names)


@cache
def load_kind(name: str) -> Kind[Any]:
    """Return the kind with this name. It is created once per process.

    Raises ConfigurationError: `kind_unknown`, `kind_doubled`, `kind_unloadable` or `kind_invalid`.
    """
    from jobs.kind import Kind

    entries = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if not entries:
        names = ", ".join(kind_names())
        installed = f"the installed kinds are {names}" if names else "no kinds are installed"
        raise ConfigurationError(
            f"no kind is named {name!r}; {installed}",
            code="kind_unknown",
        )
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"a kind cannot be named {name!r} ({', '.join(sorted(entries))}): its name is used on the "
            "command line and may contain only lower-case letters, digits, hyphens and underscores",
            code="kind_invalid",
        )
    if len(entries) > 1:
        raise ConfigurationError(
            f"several kinds named {name!r} are installed ({', '.join(sorted(entries))}): remove all but one "
            "of their packages",
            code="kind_doubled",
        )
    ((value, entry),) = entries.items()
    try:
        kind = _instance(entry)
    except ConfigurationError:
        raise
    except Exception as error:  # the module of another package may raise any exception
        raise ConfigurationError(
            f"the kind {name!r} ({value}) cannot be loaded ({type(error).__name__}: {error}): install its "
            "package again, or remove it",
            code="kind_unloadable",
        ) from error
    if not isinstance(kind, Kind) or getattr(kind, "name", None) != name:
        raise ConfigurationError(
            f"{value} is not a kind named {name!r}: derive it from jobs.kind.Kind, and give it the `name` "
            "of its entry point",
            code="kind_invalid",
        )
    for attribute in ("payload_type", "settings_type"):
        if not _is_model(getattr(kind, attribute, None)):
            raise ConfigurationError(
                f"the kind {name!r} ({value}) has no pydantic model as its `{attribute}`: write a class that "
                "derives from pydantic.BaseModel, and name it there",
                code="kind_invalid",
            )
    return kind


def _instance(entry: EntryPoint) -> Any:
    """Return an instance of the class that an entry point names.

    Raises ConfigurationError for an abstract class, and any exception of the class or its module.
    """
    kind_class = entry.load()
    if missing := sorted(getattr(kind_class, "__abstractmethods__", ())):
        raise ConfigurationError(
            f"the kind {entry.name!r} ({entry.value}) does not define {', '.join(missing)}: write the method "
            "in its class",
            code="kind_unloadable",
        )
    return kind_class()


def _is_model(model: object) -> bool:
    from pydantic import BaseModel

    return isinstance(model, type) and issubclass(model, BaseModel)


def load_kinds() -> dict[str, Kind[Any]]:
    """Return all installed kinds by name. Do not call it in a job, because importing them takes seconds.

    A kind that cannot be loaded is logged and left out. Its jobs fail when they are run.
    """
    kinds: dict[str, Kind[Any]] = {}
    for name in kind_names():
        try:
            kinds[name] = load_kind(name)
        except Exception:
            logger.warning("A kind cannot be loaded.", exc_info=True, extra={"kind": name})
    return kinds


def warm_kinds() -> None:
    """Call `Kind.warm` of every kind, so that jobs need not wait for what it loads.

    An error is only logged, because the jobs of that kind will report it.
    """
    for name, kind in load_kinds().items():
        try:
            kind.warm()
        except Exception:
            logger.warning("A kind cannot be warmed up.", exc_info=True, extra={"kind": name})


def migration_folders() -> dict[str, Path]:
    """Return the folders of migrations by the name of their kind: `migrations`, next to the kind's module.

    They are found without loading the kinds, which would take seconds. A package that cannot be found is
    logged and left out.
    """
    folders = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            spec = find_spec(entry.module)
        except Exception:  # the package of a third party may raise any exception
            logger.warning("A kind cannot be found.", exc_info=True, extra={"kind": entry.name})
            continue
        if spec is None or spec.origin is None or not (spec.parent or spec.submodule_search_locations):
            continue  # a module outside a package has no folder of its own
        folder = Path(spec.origin).parent / "migrations"
        if folder.is_dir():
            folders[entry.name] = folder
    return folders


def load_target(target: str) -> Any:
    """Return the object with the name MODULE:ATTRIBUTE. Raises ConfigurationError (`target_unknown`).

    >>> load_target("posixpath:join")("a", "b")
    'a/b'
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # the module of a third party may raise any exception
        raise ConfigurationError(
            f"{target!r} cannot be loaded ({type(error).__name__}: {error}): correct the reference, whose "
            "form is MODULE:ATTRIBUTE, or install the packages that it needs",
            code="target_unknown",
        ) from error
