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
        "What is watched by itself: sources, a watch list, a schedule.",
        kind="sentiment_report",
    ),
    Command(
        "alerts",
        "kinds.sentiment.commands.alerts:app",
        "Alerts: what was raised, seen, and shall be silent.",
        kind="sentiment_report",
    ),
)
