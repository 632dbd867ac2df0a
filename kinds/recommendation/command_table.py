"""The commands of recommendations."""

from __future__ import annotations

from pressroom.command_table import Command

COMMANDS = (
    Command(
        "run recommendations",
        "kinds.recommendation.commands.recommendations:run_recommendations",
        "Rank items for each user, and write texts where something has changed since the last run.",
        kind="recommendation",
        makes_batches=True,
    ),
    Command(
        "submit recommendations",
        "kinds.recommendation.commands.recommendations:submit_recommendations",
        "Queue a run over a catalogue and a log; print the batch's id once both are ingested.",
        kind="recommendation",
    ),
    Command(
        "refresh",
        "kinds.recommendation.commands.refresh:app",
        "Manage recommenders: their files, rules, schedules and releases.",
        kind="recommendation",
    ),
    Command(
        "evaluate recommendations",
        "kinds.recommendation.commands.evaluate:evaluate_recommendations",
        "Hold out part of a log, rank items by the rest, and print how much of that part the lists contain.",
        kind="recommendation",
    ),
)
