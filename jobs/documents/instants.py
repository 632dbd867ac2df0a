"""When a document was published: the ways in which files write it -> an instant in UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
"""Before it nothing was published on-line; 1970 is what a missing epoch time looks like."""

MAX_AHEAD = timedelta(days=1)
"""Clocks and zones are wrong by hours; a document of the day after tomorrow is wrong altogether."""

_POST = re.compile(
    r"(?:[A-Za-z]{3} )?(?P<month>[A-Za-z]{3}) +(?P<day>\d{1,2}) (?P<time>\d{2}:\d{2}:\d{2}) "
    r"(?P<zone>[+-]\d{4}|UTC|GMT)(?: |$)(?P<year>\d{4})"
)
"""As posts have it: "Wed Jan 01 03:59:03 +0000 2014"."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?")
_DIGITS_OF_DATE = 8
_UNITS = (1e11, 1e14, 1e17, 1e20)
"""Upper ends of epoch seconds, milliseconds, microseconds and nanoseconds: each a thousand times the last."""
_MAX_CHARACTERS = 64


def parse_instant(value: object) -> datetime | None:
    """The instant in UTC; None for what cannot be read. A time without a zone is taken as UTC.

    Read are ISO 8601, RFC 2822 (mail and RSS), the date of posts, and epoch seconds, milliseconds,
    microseconds or nanoseconds; a date alone is its midnight. "01/02/2024" is not: nobody can say which
    month it is.

    >>> parse_instant("Wed Jan 01 03:59:03 +0000 2014").isoformat()
    '2014-01-01T03:59:03+00:00'
    >>> parse_instant("1388548743000") == parse_instant("Wed, 01 Jan 2014 04:59:03 +0100")
    True
    """
    if isinstance(value, str):
        return _of_text(value.strip())
    if isinstance(value, datetime):
        return _in_utc(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _of_number(value)
    return None


def implausible(instant: datetime, now: datetime) -> str | None:
    """Why no document can be of this instant, in words; None if it can."""
    if instant < EARLIEST:
        return f"is of {instant:%Y-%m-%d}, before {EARLIEST:%Y}"
    if instant - now > MAX_AHEAD:
        return f"is of {instant:%Y-%m-%d %H:%M} UTC, in the future"
    return None


def _of_text(text: str) -> datetime | None:
    if not text or len(text) > _MAX_CHARACTERS:
        return None
    try:
        return _in_utc(datetime.fromisoformat(text))
    except ValueError:
        pass
    if _NUMBER.fullmatch(text):
        return _of_number(float(text))
    if (match := _POST.match(text)) is not None:
        return _of_post(match)
    if text.upper().endswith((" UTC", " GMT")) and text[:4].isdigit():
        return _of_text(text[:-4] + "Z")
    if text[:4].isdigit() and text[4:5] in "/.":
        return _of_text(text.replace(text[4], "-", 2))
    try:
        return _in_utc(parsedate_to_datetime(text))
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def _of_number(number: float) -> datetime | None:
    text = str(int(number)) if abs(number) < _UNITS[-1] else ""
    if len(text) == _DIGITS_OF_DATE and text[:2] in ("19", "20"):
        try:
            return _in_utc(datetime.fromisoformat(text))
        except ValueError:
            pass
    for power, end in enumerate(_UNITS):
        if abs(number) < end:
            try:
                return datetime.fromtimestamp(number / 1000**power, UTC)
            except (ValueError, OverflowError, OSError):
                return None
    return None


def _of_post(match: re.Match[str]) -> datetime | None:
    month = match["month"].lower()
    if month not in _MONTHS:
        return None
    zone = match["zone"] if match["zone"][0] in "+-" else "+0000"
    written = f"{match['year']}-{_MONTHS.index(month) + 1:02}-{int(match['day']):02}T{match['time']}{zone}"
    try:
        return _in_utc(datetime.fromisoformat(written))
    except ValueError:
        return None


def _in_utc(instant: datetime) -> datetime | None:
    if instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        return None
