"""The functions of `pressroom run articles` and `pressroom submit articles`."""

from __future__ import annotations

from pressroom.commands.kind import run_command, submit_command

ARTICLE = "article"

run_articles = run_command(
    ARTICLE, "Write an article for each brief, from the input file to the results.", name="articles"
)
submit_articles = submit_command(
    ARTICLE, "Queue an article for each brief; print the batch's id once everything is accepted."
)
