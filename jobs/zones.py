"""Names of time zones as dates have them: a table says which hour "EST" or "PDT" means."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_HOURS = {
    "UTC": 0, "GMT": 0, "UT": 0, "Z": 0, "WET": 0, "WEST": 1,
    "CET": 1, "CEST": 2, "MET": 1, "MEST": 2, "MEZ": 1, "MESZ": 2, "EET": 2, "EEST": 3, "MSK": 3, "TRT": 3,
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
    "AKST": -9, "AKDT": -8, "HST": -10, "NST": -3.5, "NDT": -2.5, "BRT": -3, "ART": -3,
    "WAT": 1, "CAT": 2, "SAST": 2, "EAT": 3, "PKT": 5, "NPT": 5.75, "WIB": 7, "ICT": 7,
    "HKT": 8, "SGT": 8, "MYT": 8, "PHT": 8, "AWST": 8, "JST": 9, "KST": 9, "ACST": 9.5, "ACDT": 10.5,
    "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
}  # fmt: skip
"""Hours ahead of UTC. Those of North America are defined by RFC 822 (section 5.1) and RFC 5322 (section 4.3);
the others have one meaning wherever they are used."""

_PLACES = {
    "ET": "America/New_York",
    "CT": "America/Chicago",
    "MT": "America/Denver",
    "PT": "America/Los_Angeles",
}
"""As American news write them, in summer and in winter."""

AMBIGUOUS_ZONES = frozenset({"IST", "BST", "AST", "ADT", "GST", "SST", "AMT", "ECT", "WST", "CLT", "LT"})
"""India, Ireland and Israel; Britain and Bangladesh; the Atlantic and Arabia; ...: refused."""


@cache
def zone_of(name: str) -> tzinfo | None:
    """The zone of an abbreviation, or of an IANA name with a slash; None for one that is not in the table.

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
