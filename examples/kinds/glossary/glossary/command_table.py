"""The command of the kind, as data, so that help lists it without loading anything else."""

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
