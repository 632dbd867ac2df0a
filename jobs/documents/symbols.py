"""Symbols of securities as a column has them: one, or a list, however it is written."""

from __future__ import annotations

import re

MAX_SYMBOLS = 100
"""Of one document; lists of the whole market say nothing of it."""

_BETWEEN = re.compile(r"[\s;,|]+")
_AROUND = " \t[](){}'\""
_EDGES = re.compile(r"^(?:\$|[A-Za-z]+\s?:\s?)|\s+")
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9.&/^=-]{0,19}")
_KEYS = ("symbol", "ticker", "name")
_EMPTY = frozenset({"NAN", "NONE", "NULL", "N/A"})


def normal_ticker(ticker: str) -> str:
    """A ticker without its exchange.

    >>> normal_ticker("$aapl"), normal_ticker("NYSE: BRK.B")
    ('AAPL', 'BRK.B')
    """
    return _EDGES.sub("", ticker.strip()).upper()


def parse_symbols(value: object) -> tuple[str, ...]:
    """The symbols of a cell, a list or a table, in order and each once; what is none is left out.

    >>> [parse_symbols(each) for each in ("AAPL;MSFT", "['$A', 'NYSE:BRK.B']", ["A", {"symbol": "B"}])]
    [('AAPL', 'MSFT'), ('A', 'BRK.B'), ('A', 'B')]
    """
    found = (normal_ticker(part) for part in _parts(value))
    symbols = (each for each in found if _SYMBOL.fullmatch(each) and each not in _EMPTY)
    return tuple(dict.fromkeys(symbols))[:MAX_SYMBOLS]


def _parts(value: object) -> list[str]:
    if isinstance(value, str):
        joined = re.sub(r":\s+", ":", value)  # "NYSE: A" is one
        return [part.strip(_AROUND) for part in _BETWEEN.split(joined)]
    if isinstance(value, int) and not isinstance(value, bool):
        return [str(value)]
    if isinstance(value, dict):
        return next((_parts(value[key]) for key in _KEYS if key in value), [])
    if isinstance(value, list | tuple):
        return [part for each in value[:MAX_SYMBOLS] for part in _parts(each)]
    return []
