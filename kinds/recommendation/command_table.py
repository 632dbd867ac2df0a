"""The commands of recommendations."""

from __future__ import annotations

from pressroom.command_table import Command

COMMANDS = (
    Command(
        "run recommendations",
        "kinds.recommendation.commands.recommendations:run_recommendations",
        "Rank for each user and write the words, where something changed since the run before.",
        kind="recommendation",
        makes_batches=True,
    ),
    Command(
        "refresh",
        "kinds.recommendation.commands.refresh:app",
        "Recommendations that are kept fresh: files, rules, a schedule.",
        kind="recommendation",
    ),
    Command(
        "evaluate recommendations",
        "kinds.recommendation.commands.evaluate:evaluate_recommendations",
        "Hold a part of a log out, rank by the rest, and print how much of it the lists find.",
        kind="recommendation",
    ),
)
