"""The commands of the article kind."""

from __future__ import annotations

from pressroom.command_table import Command

COMMANDS = (
    Command(
        "run articles",
        "kinds.article.commands:run_articles",
        "Write an article for each brief, from the input file to the results.",
        kind="article",
        makes_batches=True,
    ),
    Command(
        "submit articles",
        "kinds.article.commands:submit_articles",
        "Queue an article for each brief; print the batch's id once everything is accepted.",
        kind="article",
    ),
)
