"""The kind's command, declared as data, so that help lists it without loading its code."""

from __future__ import annotations

from pressroom.command_table import Command

COMMANDS = (
    Command(
        "terms",
        "glossary.commands:terms",
        "List the terms that batches have noted, the most frequent first.",
        kind="glossary",
    ),
)
