"""Reads a watch list from a TOML or JSON file, and reports everything that is wrong with it.

An example:

name = "steel"
calendar = "XNYS"

[[company]]
name = "Acme Steel Inc."
tickers = ["ACME"]
aliases = ["Acme"]
description = "Makes steel in Ohio."

[[topic]]
name = "tariffs"
description = "Duties on imports, and quotas."
"""

from __future__ import annotations

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import rfc8785
from pydantic import ValidationError

from jobs.documents.document import normal_ticker
from jobs.errors import InputError
from jobs.guards import find_secret, invalid_unicode_at
from jobs.intake.files import TOML_ERRORS, read_input
from jobs.intake.values import JsonRefusedError, parse
from jobs.rejection import FileRejectedError
from jobs.validation import describe_fault
from kinds.sentiment.documents.names import Finder, spellings
from kinds.sentiment.documents.watchlist import Entity, EntityKind, Watchlist
from kinds.sentiment.series.trading_days import CalendarError, trading_days

MAX_FILE_BYTES = 4 * 2**20
MAX_ENTITIES = 5_000
"""Maximum number of entities, each of which has a series of windows. A larger list can be split into several
monitors."""
MAX_NAMES = 50
"""Maximum number of aliases of one entity, and of its tickers."""

_SECTIONS = {"company": EntityKind.COMPANY, "topic": EntityKind.TOPIC}
_KEYS = ("id", "name", "tickers", "aliases", "description")
_LISTS = frozenset({"tickers", "aliases"})
_NOT_OF_ID = re.compile(r"[^a-z0-9]+")
_MAX_ID_CHARACTERS = 64


class WatchlistError(InputError):
    """The file is not a valid watch list; the message lists every fault with its entry."""

    code = "watchlist_invalid"


@dataclass(frozen=True, slots=True)
class WatchlistFile:
    """The content of a watch list file."""

    watchlist: Watchlist
    warnings: tuple[str, ...]
    """Warnings about entries whose mentions are hard to distinguish; each tells the user what to do."""
    body: bytes = field(repr=False)
    """The watch list as canonical JSON (RFC 8785): the resource that jobs read."""
    sha256: str
    """SHA-256 of `body`."""
    calendar: str | None = None
    """Calendar of the exchange that lists the companies (series.trading_days); part of a monitor's policy."""


def read_watchlist(path: Path) -> WatchlistFile:
    """Read and check a watch list. Raises WatchlistError, which names every fault."""
    try:
        body = read_input(path, MAX_FILE_BYTES)
    except FileRejectedError as error:
        raise WatchlistError(
            f"{path}: {error.rejected.reason} ({error.rejected.advice})", code=error.code
        ) from error
    fields = _parse(path, body)
    default_name = path.name.partition(".")[0]
    faults: list[str] = []
    entities = list(_entities(fields, faults))
    name = fields.get("name", slug(default_name))
    if not isinstance(name, str) or (name != slug(name)):
        shown = slug(name) if isinstance(name, str) else slug(default_name)
        faults.append(f"name: {name!r} is not allowed (use lower case, digits and hyphens: {shown!r})")
    faults += _duplicates(entities)
    calendar = _calendar(fields.get("calendar"), faults)
    if not entities and not faults:
        faults.append("the watch list is empty (add at least one [[company]] or [[topic]] with a name)")
    if len(entities) > MAX_ENTITIES:
        faults.append(
            f"the watch list has {len(entities):,} entries, more than {MAX_ENTITIES:,} (split it over several"
            " monitors)"
        )
    if faults:
        raise WatchlistError("\n".join(f"{path}: {fault}" for fault in faults))
    watchlist = Watchlist(name=str(name), entities=tuple(entities))
    body = canonical_watchlist(watchlist)
    sha256 = hashlib.sha256(body).hexdigest()
    return WatchlistFile(watchlist, tuple(_warnings(watchlist)), body, sha256, calendar)


def canonical_watchlist(watchlist: Watchlist) -> bytes:
    """Return canonical JSON (RFC 8785), so that equal watch lists have equal bytes and digests."""
    return rfc8785.dumps(watchlist.model_dump(mode="json"))


def slug(name: str) -> str:
    """Return an id derived from a name.

    >>> slug("Nestlé & Söhne AG")
    'nestle-sohne-ag'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    identifier = _NOT_OF_ID.sub("-", plain).strip("-")[:_MAX_ID_CHARACTERS].strip("-")
    return identifier or f"entity-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _parse(path: Path, body: bytes) -> Mapping[str, object]:
    advice = "save it as UTF-8 text, TOML or JSON"
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WatchlistError(f"{path} is not UTF-8 ({advice})", code="text_invalid_unicode") from error
    if (at := invalid_unicode_at(text)) is not None:
        raise WatchlistError(
            f"{path} contains a NUL at character {at + 1} ({advice})", code="text_invalid_unicode"
        )
    if (secret := find_secret(text)) is not None:
        raise WatchlistError(f"{path} seems to contain {secret} (remove it)", code="secret_in_input")
    try:
        fields = parse(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except JsonRefusedError as error:
        raise WatchlistError(f"{path}: {error} (correct the JSON)", code=error.code) from error
    except TOML_ERRORS as error:
        raise WatchlistError(
            f"{path} is not valid TOML: {error} (quote names, and put lists in brackets)"
        ) from error
    if not isinstance(fields, dict):
        raise WatchlistError(f"{path} is not a table of entries (write a name and [[company]] entries)")
    return fields


def _calendar(code: object, faults: list[str]) -> str | None:
    if code is None:
        return None
    if not isinstance(code, str):
        faults.append(f'calendar: {code!r} is not text (write the code of an exchange, such as "XNYS")')
        return None
    try:
        return trading_days(code).name
    except CalendarError as error:
        faults.append(f"calendar: {error}")
        return None


def _entities(fields: Mapping[str, object], faults: list[str]) -> Iterator[Entity]:
    faults += [
        f"{key} is not a known key (the keys are name, calendar, [[company]] and [[topic]])"
        for key in fields
        if key not in ("name", "calendar") and key not in _SECTIONS
    ]
    for section, kind in _SECTIONS.items():
        entries = fields.get(section, [])
        if not isinstance(entries, list):
            faults.append(f"{section} is a single entry, not a list (write [[{section}]])")
            continue
        for number, entry in enumerate(entries, start=1):
            where = f"{section} {number}"
            if not isinstance(entry, dict):
                faults.append(f"{where} is not a table (write [[{section}]] and a name below it)")
            elif (entity := _entity(where, kind, entry, faults)) is not None:
                yield entity


def _entity(where: str, kind: EntityKind, entry: Mapping[str, object], faults: list[str]) -> Entity | None:
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        faults.append(f'{where} has no name (write name = "...")')
        return None
    where = f"{where} ({name.strip()[:40]!r})"
    num_faults = len(faults)
    for key, value in entry.items():
        if key not in _KEYS:
            faults.append(f"{where}: {key!r} is not a known key (the keys are {', '.join(_KEYS)})")
        elif key in _LISTS:
            if not isinstance(value, list) or not all(
                isinstance(item, str) and item.strip() for item in value
            ):
                faults.append(f'{where}: {key} is not a list of names (write {key} = ["..."])')
            elif len(value) > MAX_NAMES:
                faults.append(
                    f"{where} has {len(value)} {key}, more than {MAX_NAMES} (keep the most common ones)"
                )
        elif not isinstance(value, str):
            faults.append(f'{where}: {key} is not text (write {key} = "...")')
    if kind is EntityKind.TOPIC and entry.get("tickers"):
        faults.append(f"{where}: a topic cannot have tickers (make it a company, or use aliases)")
    if len(faults) > num_faults:
        return None
    try:
        return Entity(
            id=str(entry.get("id") or slug(name)),
            kind=kind,
            name=name.strip(),
            aliases=_strings(entry.get("aliases")),
            tickers=tuple(dict.fromkeys(normal_ticker(ticker) for ticker in _strings(entry.get("tickers")))),
            description=" ".join(str(entry.get("description", "")).split()),
        )
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            advice = f"write {slug(name)!r}" if problem["loc"][:1] == ("id",) else "shorten it"
            faults.append(f"{where}: {describe_fault(problem)} ({advice})")
        return None


def _strings(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.strip() for item in value)) if isinstance(value, list) else ()


def _duplicates(entities: list[Entity]) -> Iterator[str]:
    names: dict[str, str] = {}
    for entity in entities:
        if entity.id in names:
            yield (
                f"{entity.kind} {entity.name!r} has the same id {entity.id!r} as {names[entity.id]!r} (give "
                "it another id)"
            )
        names.setdefault(entity.id, entity.name)


def _warnings(watchlist: Watchlist) -> Iterator[str]:
    finder = Finder(watchlist)
    advice = "describe each, or give each a distinct alias; otherwise such mentions are dropped"
    for text, owners in {**finder.shared, **finder.shared_tickers}.items():
        names = " and ".join(repr(watchlist.entities[index].name) for index in owners)
        yield f"{text!r} is a name of {names} ({advice})"
    for index, entity in enumerate(watchlist.entities):
        own = spellings(index, entity)
        if own and all(spelling.is_common for spelling in own) and not entity.description:
            yield (
                f"{entity.name!r} is a common word without a description (add one, or longer aliases;"
                " otherwise sentences that begin with the word count as mentions)"
            )
