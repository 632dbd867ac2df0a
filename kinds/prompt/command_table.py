"""The commands of the prompt kind."""

from __future__ import annotations

from pressroom.command_table import Command

COMMANDS = (
    Command(
        "run prompt",
        "kinds.prompt.commands:run_prompt",
        "Send each row of a table through a template; the results are the table with new columns.",
        kind="prompt",
        makes_batches=True,
    ),
    Command(
        "submit prompt",
        "kinds.prompt.commands:submit_prompt",
        "Queue a job for each row of a table; print the batch's id once everything is accepted.",
        kind="prompt",
    ),
)
