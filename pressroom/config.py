"""Prints every setting with its value and source."""

from __future__ import annotations

import os

from pydantic import SecretStr

from pressroom.console import print_json, print_line
from workers.settings import Settings


def print_configuration(settings: Settings, *, json: bool) -> None:
    """Print one line per setting on stdout, or one JSON object; secrets are masked by their type."""
    rows = []
    for name in Settings.model_fields:
        variable = f"PRESSROOM_{name.upper()}"
        value = getattr(settings, name)
        shown = str(value) if isinstance(value, SecretStr) else settings.model_dump(mode="json")[name]
        rows.append((variable, shown, "environment" if variable in os.environ else "default"))
    if json:
        print_json({variable: {"value": value, "source": source} for variable, value, source in rows})
        return
    for variable, value, source in rows:
        print_line(f"{variable}={'' if value is None else value}  ({source})")
