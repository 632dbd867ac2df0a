"""The commands of sentiment reports."""

from __future__ import annotations

from pressroom.command_table import Command

COMMANDS = (
    Command(
        "run sentiment",
        "kinds.sentiment.commands.sentiment:run_sentiment",
        "Analyse documents about watched companies and topics: rows, trends, alerts and a report of each.",
        kind="sentiment_report",
        makes_batches=True,
    ),
    Command(
        "submit sentiment",
        "kinds.sentiment.commands.sentiment:submit_sentiment",
        "Queue the documents that are not known yet; print the batch's id once they are accepted.",
        kind="sentiment_report",
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
