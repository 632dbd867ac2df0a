"""Makes text from outside safe to show on a terminal, in a log, in Markdown and in a spreadsheet."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

MAX_SHOWN_CHARACTERS = 2000
"""Maximum number of characters of a line that is shown."""

_JOINERS = "\u200c\u200d"
"""Invisible characters that scripts and emoji need, and that have no effect on the terminal."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of cells that a spreadsheet treats as formulas."""

_HTML = re.compile(r"<(?=[A-Za-z/!?])")


def printable(text: str) -> str:
    r"""Escape a text so that it is one line and cannot act on a terminal or change the writing direction.

    Control characters, format characters such as bidirectional overrides, line separators and lone
    surrogates are escaped as in JSON and YAML. Letters of all scripts and spaces of all widths are kept.

    >>> printable("a\x1b[31m\x9b\u202eb\n"), printable("Brot – 新聞 \u00a0")
    ('a\\u001b[31m\\u009b\\u202eb\\u000a', 'Brot – 新聞 \xa0')
    """
    if text.isprintable():
        return text
    acting = {ord(each): _escape(each) for each in set(text) if not _is_shown(each)}
    return text.translate(acting) if acting else text


def shown(text: str, *, max_characters: int = MAX_SHOWN_CHARACTERS) -> str:
    """Escape a text like `printable`, and cut it if it is longer than `max_characters`.

    >>> shown("x" * 1_700_000, max_characters=3)
    'xxx... (1,700,000 characters)'
    """
    if len(text) <= max_characters:
        return printable(text)
    return f"{printable(text[:max_characters])}... ({len(text):,} characters)"


def shown_lines(text: str, *, max_lines: int = 60) -> str:
    r"""Escape the lines of a message, and indent all but the first, so that no line looks like a new message.

    >>> shown_lines("error: no file 'a\nerror: all is lost'")
    "error: no file 'a\n  error: all is lost'"
    """
    if text.isprintable() and len(text) <= MAX_SHOWN_CHARACTERS:
        return text
    lines = text.split("\n")
    more = [f"... ({len(lines):,} lines)"] if len(lines) > max_lines else []
    return "\n  ".join([*map(shown, lines[:max_lines]), *more])


def json_text(
    value: object,
    *,
    indent: int | None = None,
    is_compact: bool = False,
    default: Callable[[object], object] = str,
) -> str:
    r"""Return a value as JSON with only unprintable characters escaped, on one line unless indented.

    >>> json_text({"title": "a\u0080b\u2028"})
    '{"title": "a\\u0080b\\u2028"}'
    """
    separators = (",", ":") if is_compact else None
    text = json.dumps(value, ensure_ascii=False, default=default, indent=indent, separators=separators)
    return printable_lines(text)


def inline_markdown(text: str) -> str:
    r"""Escape a line of Markdown so that HTML in it is shown as text.

    >>> inline_markdown("<script>1 < 2</script>\x80")
    '&lt;script>1 < 2&lt;/script>\\u0080'
    """
    return _HTML.sub("&lt;", printable(text))


def printable_lines(text: str) -> str:
    """Escape a text like `printable`, but keep line ends and tabs. This does not change the value of JSON."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def page_text(value: object) -> object:
    r"""Prepare a value for a page, before HTML is escaped, as the `finalize` function of a Jinja environment.

    >>> page_text("a\u202eb\n"), page_text(1)
    ('a\\u202eb\n', 1)
    """
    return printable_lines(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def csv_cell(value: object) -> object:
    """Quote a cell that a spreadsheet would treat as a formula (OWASP, CSV injection). Numbers are kept.

    >>> csv_cell("=1+1"), csv_cell(-0.5), csv_cell("plain"), csv_cell(None)
    ("'=1+1", -0.5, 'plain', '')
    """
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return "" if value is None else value


def shown_fields(fields: Mapping[str, object]) -> str:
    """Format the fields of a log record as " name=value", all on one line."""
    return "".join(f" {name}={shown(str(value), max_characters=500)}" for name, value in fields.items())


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    r"""Escape a character as in JSON, with two escapes if it is above U+FFFF."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def plural(count: int, singular: str, plural_form: str) -> str:
    """Return a count with the form of the noun that fits it.

    >>> plural(1, "job is", "jobs are"), plural(2000, "job is", "jobs are")
    ('1 job is', '2,000 jobs are')
    """
    return f"{count:,} {singular if count == 1 else plural_form}"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> duration(8.2), duration(95), duration(9000)
    ('8 s', '1 min 35 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def utc_text(at: datetime | None) -> str | None:
    """Return the instant in UTC in the form that JSON outputs use, or None for None.

    >>> utc_text(datetime(2026, 3, 1, 6, tzinfo=UTC))
    '2026-03-01T06:00:00Z'
    """
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def minute_text(at: datetime) -> str:
    """Return the instant in UTC in the form that tables for people use, with seconds only if there are any.

    >>> [minute_text(datetime(2026, 3, 1, 6, 0, seconds, tzinfo=UTC)) for seconds in (0, 5)]
    ['2026-03-01 06:00Z', '2026-03-01 06:00:05Z']
    """
    utc = at.astimezone(UTC)
    return f"{utc:%Y-%m-%d %H:%M:%SZ}" if utc.second else f"{utc:%Y-%m-%d %H:%MZ}"
