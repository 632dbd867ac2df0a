"""Which JSON schemas can constrain a text: the checks that the grammar library does not make itself.

llguidance ignores keywords that it does not know, so a misspelt one would have no effect. It expands
intersections of schemas without a limit, and accepts schemas that no finite text satisfies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

MAX_SCHEMA_BYTES = 256 * 1024
"""Maximum size of a schema. One of 20,000 enum values, which is 290 KB, takes 60 ms to compile; this is a
limit on memory."""
MAX_DEPTH = 64
"""Maximum depth of schemas within schemas. The library's own parser stops at 128 levels of JSON."""
MAX_OPTIONAL_PROPERTIES = 400
"""Maximum properties of an object that are not required. With 1,000, the library's parser exceeds its limit
of 2,000 items in the middle of a text, because it needs four items for each."""
MAX_INTERSECTION = 2000
"""Maximum number of schemas in an intersection after all references in it are expanded. The library takes
0.2 seconds for 4,000, and there is no way to interrupt it."""

_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"}
    | {"readOnly", "writeOnly", "contentEncoding", "contentMediaType"}
)
"""Keywords that do not restrict values."""
_VALUES = frozenset(
    {"type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "required", "minProperties"}
    | {"maxProperties", "$ref"}
)
_SCHEMAS = frozenset({"items", "additionalProperties"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_KEYWORDS = _ANNOTATIONS | _VALUES | _SCHEMAS | _LISTS | _MAPS

_UNWRITABLE = re.compile(r"[\x00-\x07\x0b\x0e-\x1f]")
"""Control characters that JSON can only write as `\\u0001`. These escapes are excluded from texts, because
Postgres accepts no NUL; the library then leaves such a character out of a constant."""
_UNWRITABLE_ESCAPE = re.compile(
    r"\\([xuU]\{0*1?[0-9a-fA-F]\}|x[01][0-9a-fA-F]|u00[01][0-9a-fA-F]|U000000[01][0-9a-fA-F]|[av])"
)
"""Escapes of regular expressions that may denote such a character."""

_DEFINITIONS = ("$defs", "definitions")

_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    "(?:(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})-"
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = (
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_EXACT_FORMATS = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}
"""Patterns for what every parser reads of the formats of RFC 3339. The library's own formats have a year 0, a
29th of February in every year, leap seconds, and fractions of any length."""

Json = object
Schema = Mapping[str, Json]


class _ProblemError(Exception):
    """A schema cannot be served, for the reason in the message."""


def schema_problem(source: str) -> str | None:
    """Return why a schema cannot be a constraint, or None. The library may still refuse it.

    >>> schema_problem('{"type": "string", "maxLenght": 3}')
    "the keyword 'maxLenght' at # is not supported"
    """
    try:
        schema = json.loads(source)
        if not isinstance(schema, dict):
            return "the schema is not a JSON object"
        json.dumps(schema, ensure_ascii=False).encode()
        _check(schema, "#", 0)
        _References(schema).check()
    except _ProblemError as problem:
        return str(problem)
    except RecursionError:
        return f"schemas are nested more than {MAX_DEPTH} deep"
    except UnicodeEncodeError:
        return "the schema contains half of a surrogate pair"
    except ValueError as error:
        return f"the schema is not JSON: {error}"
    return None


def served_schema(source: str) -> str:
    """Return a schema without a problem in the form in which the library gets it, with exact dates and times.

    >>> served_schema('{"format": "time", "title": "At"}').startswith('{"title":"At","pattern":"^(?:[01]')
    True
    """
    return json.dumps(_with_exact_formats(json.loads(source)), ensure_ascii=False, separators=(",", ":"))


def _with_exact_formats(schema: Json) -> Json:
    if not isinstance(schema, dict):
        return schema
    served = {keyword: _with_exact_inner(keyword, value) for keyword, value in schema.items()}
    name = schema.get("format")
    pattern = _EXACT_FORMATS.get(name) if isinstance(name, str) else None
    if pattern is not None:
        del served["format"]
        if "pattern" in served:
            served["allOf"] = [*_list(served.get("allOf")), {"pattern": pattern}]
        else:
            served["pattern"] = pattern
    return served


def _with_exact_inner(keyword: str, value: Json) -> Json:
    if keyword in _SCHEMAS:
        return _with_exact_formats(value)
    if keyword in _LISTS and isinstance(value, list):
        return [_with_exact_formats(each) for each in value]
    if keyword in _MAPS and isinstance(value, dict):
        return {name: _with_exact_formats(each) for name, each in value.items()}
    return value


def _check(schema: Json, place: str, depth: int) -> None:
    """Raise _ProblemError if a schema, or one inside of it, has something that cannot be served."""
    if depth > MAX_DEPTH:
        raise _ProblemError(f"schemas are nested more than {MAX_DEPTH} deep")
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise _ProblemError(f"the schema at {place} must be an object, true or false")
    for keyword in schema:
        if keyword not in _KEYWORDS and (not keyword.startswith("x-") or keyword == "x-guidance"):
            raise _ProblemError(f"the keyword {keyword!r} at {place} is not supported")
    _check_values(schema, place)
    for name, child in _children(schema):
        _check(child, f"{place}/{name}", depth + 1)


def _check_values(schema: Schema, place: str) -> None:
    properties = schema.get("properties")
    names = list(properties) if isinstance(properties, dict) else []
    for keyword, value in (
        ("const", schema.get("const")),
        ("enum", schema.get("enum")),
        ("properties", names),
    ):
        if any(_UNWRITABLE.search(text) for text in _strings(value)):
            raise _ProblemError(f"{keyword!r} at {place} contains a control character")
    patterns = schema.get("patternProperties")
    for pattern in (schema.get("pattern"), *(patterns if isinstance(patterns, dict) else ())):
        if isinstance(pattern, str) and (_UNWRITABLE.search(pattern) or _UNWRITABLE_ESCAPE.search(pattern)):
            raise _ProblemError(f"the pattern {pattern!r} at {place} may contain a control character")
    reference = schema.get("$ref")
    if "$ref" in schema and not (isinstance(reference, str) and re.match("#(/|$)", reference)):
        raise _ProblemError(
            f"the $ref {reference!r} at {place} is not a place in the schema, such as #/$defs/x"
        )
    if "$id" in schema and place != "#":
        raise _ProblemError(f"'$id' at {place} is not supported: only the whole schema may have one")
    for keyword in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(schema.get(keyword), bool):
            raise _ProblemError(f"{keyword!r} at {place} must be a number, as in JSON Schema since draft 6")
    required = _required(schema)
    least = schema.get("minProperties")
    if isinstance(least, int) and least > len(required):
        raise _ProblemError(
            f"minProperties at {place} is more than the {len(required)} required properties, and a text may "
            "repeat the name of a property that the schema does not list"
        )
    num_optional = len(set(names) - required)
    if num_optional > MAX_OPTIONAL_PROPERTIES:
        raise _ProblemError(
            f"{num_optional} properties at {place} are optional, and at most {MAX_OPTIONAL_PROPERTIES} may "
            "be: list properties in 'required'"
        )


def _children(schema: Schema) -> Iterator[tuple[str, Json]]:
    """Yield the schemas directly inside a schema, with their place in it."""
    for keyword, value in schema.items():
        if keyword in _SCHEMAS:
            yield keyword, value
        elif keyword in _LISTS and isinstance(value, list):
            yield from ((f"{keyword}/{index}", child) for index, child in enumerate(value))
        elif keyword in _MAPS and isinstance(value, dict):
            yield from ((f"{keyword}/{name}", child) for name, child in value.items())


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from _strings(each)


def _required(schema: Schema) -> frozenset[str]:
    names = schema.get("required")
    return (
        frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
    )


class _References:
    """Follows the references of a schema, to find those that have no end."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._schemas = list(_walk(root, "#"))
        self._sizes: dict[int, int] = {}

    def check(self) -> None:
        """Raise _ProblemError for a schema without finite values, or an intersection that is too large."""
        if not self._is_finite():
            raise _ProblemError("the schema refers to itself in such a way that no finite text satisfies it")
        for schema, place in self._schemas:
            if _is_intersection(schema) and self._size(schema, set()) > MAX_INTERSECTION:
                raise _ProblemError(
                    f"the intersection at {place} contains more than {MAX_INTERSECTION} schemas once its "
                    "references are expanded"
                )

    def _is_finite(self) -> bool:
        """Return whether the root has finite values: the least fixed point over all of its schemas."""
        open_groups: dict[int, int] = {}
        users: dict[int, list[tuple[int, set[int]]]] = {}
        known = {id(schema) for schema, _ in self._schemas}
        finite: list[int] = []
        for schema, _ in self._schemas:
            groups = [{id(each) for each in group} for group in self._needs(schema)]
            groups = [group for group in groups if group <= known]
            open_groups[id(schema)] = len(groups)
            for group in groups:
                for member in group:
                    users.setdefault(member, []).append((id(schema), group))
            if not groups:
                finite.append(id(schema))
        while finite:
            for user, group in users.get(finite.pop(), ()):
                if group:  # the first of its schemas to be finite
                    group.clear()
                    open_groups[user] -= 1
                    if not open_groups[user]:
                        finite.append(user)
        return not open_groups[id(self._root)]

    def _needs(self, schema: Schema) -> Iterator[list[Json]]:
        """Yield groups of schemas. Each value of a schema contains or is a value of one schema per group."""
        if "$ref" in schema:
            yield [self._target(schema)]
        yield from ([each] for each in _list(schema.get("allOf")))
        yield from (_list(schema[keyword]) for keyword in ("anyOf", "oneOf") if _list(schema.get(keyword)))
        properties = schema.get("properties")
        if schema.get("type") == "object" and isinstance(properties, dict):
            yield from ([properties[name]] for name in _required(schema) if name in properties)
        least = schema.get("minItems")
        if schema.get("type") == "array" and isinstance(least, int):
            firsts = _list(schema.get("prefixItems"))
            yield from ([each] for each in firsts[:least])
            if least > len(firsts) and "items" in schema:
                yield [schema["items"]]

    def _target(self, schema: Schema) -> Json:
        """Return what a schema refers to, or None if there is nothing."""
        target: Json = self._root
        for part in str(schema.get("$ref", "")).split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(target, list):
                target = target[int(name)] if name.isdecimal() and int(name) < len(target) else None
            else:
                target = target.get(name) if isinstance(target, dict) else None
        return target

    def _size(self, schema: Json, path: set[int]) -> int:
        """Return the number of schemas in a schema with all references expanded; recursion is too many."""
        if not isinstance(schema, dict):
            return 1
        if id(schema) in path:
            return MAX_INTERSECTION + 1
        if (size := self._sizes.get(id(schema))) is None:
            path.add(id(schema))
            inner = [child for name, child in _children(schema) if not name.startswith(_DEFINITIONS)]
            size = 1 + sum(self._size(child, path) for child in inner)
            if "$ref" in schema:
                size += self._size(self._target(schema), path)
            path.discard(id(schema))
            self._sizes[id(schema)] = size
        return size


def _walk(schema: Json, place: str) -> Iterator[tuple[Schema, str]]:
    if isinstance(schema, dict):
        yield schema, place
        for name, child in _children(schema):
            yield from _walk(child, f"{place}/{name}")


def _is_intersection(schema: Schema) -> bool:
    """Return whether a value must satisfy several schemas at once."""
    num_schemas = len(_list(schema.get("allOf"))) + sum(word in schema for word in ("$ref", "anyOf", "oneOf"))
    has_own_keywords = bool(schema.keys() - _ANNOTATIONS - {"$ref", "allOf", "anyOf", "oneOf", *_DEFINITIONS})
    return num_schemas + has_own_keywords > 1


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
