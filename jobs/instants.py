"""Parses dates and times, in the forms that files and feeds use, into instants in UTC.

All dates from outside are parsed here. If the parser does not understand all of a text, it returns None. It
never guesses an hour, and never fills in missing parts from the current time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from enum import StrEnum
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobs.errors import InputError

_HOURS = {
    "UTC": 0, "GMT": 0, "UT": 0, "Z": 0, "WET": 0, "WEST": 1,
    "CET": 1, "CEST": 2, "MET": 1, "MEST": 2, "MEZ": 1, "MESZ": 2, "EET": 2, "EEST": 3, "MSK": 3, "TRT": 3,
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
    "AKST": -9, "AKDT": -8, "HST": -10, "NST": -3.5, "NDT": -2.5, "BRT": -3, "ART": -3,
    "WAT": 1, "CAT": 2, "SAST": 2, "EAT": 3, "PKT": 5, "NPT": 5.75, "WIB": 7, "ICT": 7,
    "HKT": 8, "SGT": 8, "MYT": 8, "PHT": 8, "AWST": 8, "JST": 9, "KST": 9, "ACST": 9.5, "ACDT": 10.5,
    "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
}  # fmt: skip
"""Abbreviations of time zones, with their hours ahead of UTC. Those of North America are defined by RFC 822
(section 5.1) and RFC 5322 (section 4.3); the others have the same meaning wherever they are used."""

_PLACES = {
    "ET": "America/New_York",
    "CT": "America/Chicago",
    "MT": "America/Denver",
    "PT": "America/Los_Angeles",
}
"""Abbreviations in American news that mean standard or daylight saving time, depending on the date."""

AMBIGUOUS_ZONES = frozenset({"IST", "BST", "AST", "ADT", "GST", "SST", "AMT", "ECT", "WST", "CLT", "LT"})
"""Abbreviations that are refused because they have several meanings. IST is used in India, Ireland and
Israel, BST in Britain and Bangladesh, AST for the Atlantic and Arabia, and so on."""


@cache
def zone_of(name: str) -> tzinfo | None:
    """Return the time zone for an abbreviation or an IANA name with a slash, or None if it is unknown.

    >>> zone_of("PDT").utcoffset(None), zone_of("IST") is None
    (datetime.timedelta(days=-1, seconds=61200), True)
    """
    hours = _HOURS.get(name.upper())
    if hours is not None:
        return timezone(timedelta(hours=hours)) if hours else UTC
    place = _PLACES.get(name.upper(), name)
    if "/" not in place:
        return None
    try:
        return ZoneInfo(place)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
"""Earliest plausible instant. Nothing was published online before 1990, and a missing epoch time often
appears as 1970."""

MAX_AHEAD = timedelta(days=1)
"""Maximum time by which an instant may be in the future. Wrong clocks and zones differ by hours only, so a
date two days ahead is an error."""

_MAX_CHARACTERS = 100
"""Maximum length of a date. The longest supported form has 70 characters: JavaScript's, with the name of the
zone in brackets."""

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?", re.ASCII)
_DIGITS_OF_DATE = (8, 12, 14)
"""Lengths of numbers that are dates: 20241215, 202412150015, 20241215001500. As epoch seconds or
milliseconds, they would mean 1970, 1976 or 2611."""
_UNITS = (1e11, 1e14, 1e17, 1e20)
"""Upper limits of epoch seconds, milliseconds, microseconds and nanoseconds, each a thousand times the
previous one."""
_SERIAL_SECONDS = (20_000, 80_000)
"""Range of the day numbers that spreadsheets use for the years 1954 to 2119, which may be mistaken for epoch
seconds."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAY = r"(?:(?:mon|tue(?:s)?|wed(?:nes)?|thu(?:rs)?|thur|fri|sat(?:ur)?|sun)(?:day)?\.?(?:,? |,))?"
"""Pattern of a weekday. It is not compared with the date, because many feeds have wrong weekdays next to
correct dates."""
_YEAR = r"(?P<year>\d{4}|'?\d{2})"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,12}))?)?"
    r"(?: ?(?P<half>[ap])\.?m\b\.?)?"
)
_OFFSET = r"(?P<offset>[+-]\d{1,2}(?::?\d{2})?)(?: ?\([a-z ./]{1,50}\))?"
_ZONE = rf"(?: ?(?:(?:utc|gmt)?{_OFFSET}|(?P<zone>[a-z]{{1,5}}|[a-z]{{2,14}}/[a-z_]{{2,30}})))"
_TO_TIME = r"(?:,? (?:at )?|t)"


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII | re.IGNORECASE)


_ISO_FORMS = (
    # 2024-12-15 00:15, 2024/12/15, 2024.12.15T00:15:00.5+01:00, 2024-12-15Z
    _form(
        rf"(?P<year>\d{{4}})(?P<mark>[-/.])(?P<number>\d{{1,2}})(?P=mark)(?P<day>\d{{1,2}})"
        rf"(?:{_TO_TIME}{_TIME})?{_ZONE}?"
    ),
    # 2024-350: the day of the year (ISO 8601)
    _form(rf"(?P<year>\d{{4}})-(?P<ordinal>\d{{3}})(?:{_TO_TIME}{_TIME}{_ZONE}?)?"),
)
_NAMED_FORMS = (
    # Sun, 15 Dec 2024 00:15:00 GMT (RFC 822, 2822 and 5322), Sunday, 15-Dec-24 00:15:00 GMT (RFC 850)
    _form(
        rf"{_WEEKDAY}{_DAY}(?P<mark>[ -])(?:of )?{_MONTH}(?:,? |(?P=mark)){_YEAR}"
        rf"(?:{_TO_TIME}{_TIME}{_ZONE}?)?"
    ),
    # Dec 15, 2024, 12:15 AM ET; Sun Dec 15 2024 00:15:00 GMT+0100 (Central European Standard Time)
    _form(rf"{_WEEKDAY}{_MONTH} {_DAY}(?:, ?| ){_YEAR}(?:{_TO_TIME}{_TIME}{_ZONE}?)?"),
    # Sun Dec 15 00:15:00 2024 (C's asctime), Wed Jan 01 03:59:03 +0000 2014 (posts)
    _form(rf"{_WEEKDAY}{_MONTH} {_DAY} {_TIME}{_ZONE}? (?P<year>\d{{4}})"),
    # 12:15 AM ET, Sun, 15 December 2024; 7:51 PM ET Dec 15, 2024
    _form(rf"{_TIME}{_ZONE}?,? {_WEEKDAY}{_DAY}[ -]{_MONTH}(?:,? |-){_YEAR}"),
    _form(rf"{_TIME}{_ZONE}?,? {_WEEKDAY}{_MONTH} {_DAY}(?:, ?| ){_YEAR}"),
)
_FORMS = (*_ISO_FORMS, *_NAMED_FORMS)
_NUMERIC = _form(
    rf"{_WEEKDAY}(?P<first>\d{{1,2}})(?P<mark>[-/.])(?P<other>\d{{1,2}})(?P=mark)(?P<year>\d{{4}}|\d{{2}})"
    rf"(?:{_TO_TIME}{_TIME})?{_ZONE}?"
)
"""Matches a date such as 12/1/2010 8:26. Which number is the month can only be found out from the whole
column or from the user."""

_SPACES = re.compile(r"[\s\u00a0\u2009\u202f]+")
_MINUS = str.maketrans({"\u2212": "-", "\u2010": "-", "\u2011": "-"})
_MAX_OFFSET = timedelta(hours=14)
"""Maximum UTC offset. No place on Earth has a larger one."""
_PIVOT = 50
"""Two-digit years below this mean 2000 to 2049, the others 1950 to 1999 (RFC 5322, section 4.3)."""


class DateFormatError(InputError):
    """The value of `--date-format` does not show which number of a date is the month."""

    code = "date_format_invalid"


class DateOrder(StrEnum):
    """The position of the month in a date such as 12/1/2010."""

    DAY_FIRST = "day-first"
    MONTH_FIRST = "month-first"


def parse_instant(value: object, order: DateOrder | None = None) -> datetime | None:
    """Parse a date or time into an instant in UTC. Return None for a value that is not fully understood.

    A time without a zone is taken as UTC, and a date without a time as midnight. The supported forms are
    ISO 8601, RFC 5322 (mail and RSS), the dates of posts and of English prose, and epoch seconds,
    milliseconds, microseconds or nanoseconds. `zone_of` resolves the names of time zones. Dates such as
    "01/02/2024" are understood only if `order` determines which number is the month.

    >>> parse_instant("Sun, 15 Dec 2024 12:15 AM").isoformat()
    '2024-12-15T00:15:00+00:00'
    >>> parse_instant("1388548743000") == parse_instant("Wed, 01 Jan 2014 04:59:03 +0100")
    True
    >>> parse_instant("12/1/2010 8:26"), parse_instant("Mon, 02 Dec 2024 10:00 IST")
    (None, None)
    """
    if isinstance(value, str):
        return _of_text(value, order)
    if isinstance(value, datetime):
        return _in_utc(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _of_number(value)
    return None


def unreadable(value: object) -> tuple[str, str]:
    """Return why parse_instant returns None for the value, and what to do about it, as two texts.

    >>> unreadable("Mon, 02 Dec 2024 10:00 IST")[0]
    "names the time zone 'IST', which has different offsets in several countries"
    """
    advice = "write it as 2026-01-31T09:30:00Z"
    if not isinstance(value, str) or len(value) > _MAX_CHARACTERS:
        return "is not a date that can be read", advice
    text = _normal(value)
    if possible_orders(text):
        return "is ambiguous: more than one number can be the month", f"give --date-format, or {advice}"
    match = _NUMERIC.fullmatch(text) or next(
        (match for form in _FORMS if (match := form.fullmatch(text))), None
    )
    if match is not None and (zone := match["zone"]) and zone_of(zone) is None:
        meaning = (
            "has different offsets in several countries" if zone.upper() in AMBIGUOUS_ZONES else "is unknown"
        )
        return f"names the time zone {zone!r}, which {meaning}", "write the offset instead, such as +05:30"
    return "is not a date that can be read", advice


def possible_orders(text: str) -> frozenset[DateOrder]:
    """Return the orders of day and month for which a numeric date is valid; none for other texts.

    >>> sorted(possible_orders("13/1/2010 8:26")), len(possible_orders("12/1/2010")), possible_orders("2010")
    ([<DateOrder.DAY_FIRST: 'day-first'>], 2, frozenset())
    >>> len(possible_orders("24/12/15"))  # 24 December 2015, or 15 December 2024
    2
    """
    text = _normal(text[:_MAX_CHARACTERS])
    if _NUMERIC.fullmatch(text) is None:
        return frozenset()
    if _is_year_first(text):
        return frozenset(DateOrder)
    return frozenset(order for order in DateOrder if _of_text(text, order) is not None)


def _is_year_first(text: str) -> bool:
    """Return whether the year may come first in a date such as 24/12/15.

    If so, the value alone does not show which number is the year.
    """
    match = _NUMERIC.fullmatch(text)
    if match is None or len(match["year"]) != 2:
        return False
    try:
        date(2000 + int(match["first"]), int(match["other"]), int(match["year"]))
    except ValueError:
        return False
    return True


def order_of_column(values: Iterable[object]) -> DateOrder | None:
    """Return the order of day and month in a column; None if no value shows it, or if two values disagree.

    >>> order_of_column(["12/1/2010", "13/1/2010"]), order_of_column(["1/13/2010", "13/1/2010"])
    (<DateOrder.DAY_FIRST: 'day-first'>, None)
    """
    decisive = {
        orders for value in values if isinstance(value, str) and len(orders := possible_orders(value)) == 1
    }
    return next(iter(decisive.pop())) if len(decisive) == 1 else None


def parse_date_order(text: str) -> DateOrder:
    """Parse the value of `--date-format`: an order, or a format of strptime or a spreadsheet that implies it.

    Raises DateFormatError.

    >>> [parse_date_order(text).value for text in ("day-first", "%H:%M %d/%m/%Y", "MM/DD/YYYY hh:mm")]
    ['day-first', 'day-first', 'month-first']
    """
    plain = re.sub("%?[hHI]{1,2}:%?[mM]{1,2}", "", text[:_MAX_CHARACTERS]).strip()
    if plain in list(DateOrder):
        return DateOrder(plain)
    day, month = (
        re.search(pattern, plain) for pattern in ("%-?[de]|[dD]{1,2}(?![a-z])", "%-?m|[mM]{1,2}(?![a-z])")
    )
    if day is None or month is None:
        raise DateFormatError(
            f"{text[:_MAX_CHARACTERS]!r} is not an order of day and month: use day-first (31/12/2026) or "
            "month-first (12/31/2026)"
        )
    return DateOrder.DAY_FIRST if day.start() < month.start() else DateOrder.MONTH_FIRST


class Instants:
    """Parses the dates of one file, with the order of day and month found in the whole column."""

    def __init__(self, order: DateOrder | None, column: Callable[[], Iterable[object]] | None) -> None:
        """Create a parser with the given order, or one that detects the order when a date requires it.

        `column` reads the column of dates from its beginning. It is called at most once.
        """
        self._order = order
        self._column = column if order is None else None

    def parse(self, value: object) -> datetime | None:
        """Parse a value like parse_instant."""
        instant = parse_instant(value, self._order)
        if instant is None and self._column is not None and isinstance(value, str) and possible_orders(value):
            self._order, self._column = order_of_column(self._column()), None
            instant = parse_instant(value, self._order)
        return instant


def implausible(instant: datetime, now: datetime) -> str | None:
    """Return why an instant is implausible for a document, in words, or None if it is plausible."""
    if instant < EARLIEST:
        low, high = _SERIAL_SECONDS
        is_serial = low <= instant.timestamp() <= high
        hint = " (it looks like a spreadsheet's day number)" if is_serial else ""
        return f"is {instant:%Y-%m-%d}, before {EARLIEST:%Y}{hint}"
    if instant - now > MAX_AHEAD:
        return f"is {instant:%Y-%m-%d %H:%M} UTC, in the future"
    return None


def _normal(text: str) -> str:
    if not text.isascii():
        text = text.translate(_MINUS)
    elif text.isprintable() and "  " not in text:
        return text.strip(" ")
    return _SPACES.sub(" ", text).strip()


def _of_text(text: str, order: DateOrder | None) -> datetime | None:
    # Most dates are plain ISO 8601. Python's parser accepts any separator before the time, so it would take
    # the zone of "2024-12-15-05:00" for a time. It therefore gets only texts of the usual form.
    if len(text) <= 10 or text[10] in "T ":
        try:
            return _in_utc(datetime.fromisoformat(text))
        except ValueError:
            pass
    if len(text) > _MAX_CHARACTERS:
        return None
    text = _normal(text)
    if _NUMBER.fullmatch(text):
        return _of_number(float(text))
    for form in _ISO_FORMS if text[:4].isdigit() else _NAMED_FORMS:
        if (match := form.fullmatch(text)) is not None:
            return _of_match(match, _day_of(match))
    if order is not None and (match := _NUMERIC.fullmatch(text)) is not None:
        return _of_match(match, _numeric_day_of(match, order))
    if text[8:9] in "tT" or text[4:5] in "wW" or text[5:6] in "wW":  # 20241215T001500Z, 2024-W50-7T00:15
        try:
            return _in_utc(datetime.fromisoformat(text.upper()))
        except ValueError:
            return None
    return None


def _of_number(number: float) -> datetime | None:
    text = str(int(number)) if abs(number) < _UNITS[-1] else ""
    if len(text) in _DIGITS_OF_DATE and text[:2] in ("19", "20"):
        try:
            return _in_utc(datetime.fromisoformat(f"{text[:8]}T{text[8:]}".removesuffix("T")))
        except ValueError:
            pass
    for power, end in enumerate(_UNITS):
        if abs(number) < end:
            try:
                return datetime.fromtimestamp(number / 1000**power, UTC)
            except (ValueError, OverflowError, OSError):
                return None
    return None


def _year_of(match: re.Match[str]) -> int:
    digits = match["year"].lstrip("'")
    year = int(digits)
    return year if len(digits) == 4 else year + (2000 if year < _PIVOT else 1900)


def _day_of(match: re.Match[str]) -> date | None:
    parts = match.groupdict()
    try:
        if parts.get("ordinal"):
            day = date(_year_of(match), 1, 1) + timedelta(days=int(parts["ordinal"]) - 1)
            return day if int(parts["ordinal"]) and day.year == _year_of(match) else None
        named = parts.get("month")
        month = _MONTHS.index(named[:3].lower()) + 1 if named else int(parts["number"])
        return date(_year_of(match), month, int(parts["day"]))
    except (ValueError, OverflowError):
        return None


def _numeric_day_of(match: re.Match[str], order: DateOrder) -> date | None:
    first, other = int(match["first"]), int(match["other"])
    day, month = (first, other) if order is DateOrder.DAY_FIRST else (other, first)
    try:
        return date(_year_of(match), month, day)
    except ValueError:
        return None


def _of_match(match: re.Match[str], day: date | None) -> datetime | None:
    if day is None:
        return None
    moment = _time_on(day, match)
    if moment is None:
        return None
    if match["offset"] is not None:
        offset = _offset_of(match["offset"])
        return _in_utc(moment.replace(tzinfo=offset)) if offset is not None else None
    if match["zone"] is None:
        return moment.replace(tzinfo=UTC)
    zone = zone_of(match["zone"])
    return _in_zone(moment, zone) if zone is not None else None


def _time_on(day: date, match: re.Match[str]) -> datetime | None:
    """Return the local date and time of a match, with midnight if it contains no time.

    24:00 means the end of the day, and a leap second the beginning of the next minute.
    """
    hours, minutes, seconds, fraction, half = match.group("hour", "minute", "second", "fraction", "half")
    hour, minute, second = int(hours or 0), int(minutes or 0), int(seconds or 0)
    if half is not None:
        is_afternoon = half in "pP"
        if hour > 12 or (hour == 0 and is_afternoon):
            return None
        hour = hour % 12 + 12 * is_afternoon
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    if second == 60 and minute == 59 and not micros:
        second, extra = 59, timedelta(seconds=1)
    elif hour == 24 and not (minute or second or micros):
        hour, extra = 0, timedelta(days=1)
    else:
        extra = None
    try:
        moment = datetime.combine(day, time(hour, minute, second, micros))
        return moment + extra if extra else moment
    except (ValueError, OverflowError):
        return None


def _offset_of(text: str) -> timezone | None:
    digits = text[1:].replace(":", "")
    hours, minutes = (digits[:-2], digits[-2:]) if len(digits) > 2 else (digits, "0")
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    if int(minutes) > 59 or offset > _MAX_OFFSET:
        return None
    return timezone(-offset if text[0] == "-" else offset)


def _in_zone(moment: datetime, zone: tzinfo) -> datetime | None:
    """Convert a local time to UTC. Return None for a time that the zone's clocks skip or show twice."""
    if isinstance(zone, timezone):
        return _in_utc(moment.replace(tzinfo=zone))
    offsets = {moment.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)}
    return _in_utc(moment.replace(tzinfo=zone)) if len(offsets) == 1 else None


def _in_utc(instant: datetime) -> datetime | None:
    if instant.tzinfo is None or instant.tzinfo is UTC:
        return instant.replace(tzinfo=UTC)
    if abs(instant.utcoffset() or timedelta()) > _MAX_OFFSET:
        return None
    try:
        return instant.astimezone(UTC)
    except OverflowError:  # possible in the years 1 and 9999
        return None
