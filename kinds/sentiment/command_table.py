"""The commands of sentiment reports."""

from __future__ import annotations

from pressroom.command_table import Command

COMMANDS = (
    Command(
        "run sentiment",
        "kinds.sentiment.commands.sentiment:run_sentiment",
        "Read documents about watched companies and topics: rows, trends, alerts and a report of each.",
        kind="sentiment_report",
        makes_batches=True,
    ),
    Command(
        "monitor",
        "kinds.sentiment.commands.monitor:app",
        "Manage monitors: their sources, watch lists and schedules.",
        kind="sentiment_report",
    ),
    Command(
        "alerts",
        "kinds.sentiment.commands.alerts:app",
        "List, acknowledge, mute and deliver alerts.",
        kind="sentiment_report",
    ),
)
