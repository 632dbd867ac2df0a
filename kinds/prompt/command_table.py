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
    Command("recipes", None, "Templates with settings and example rows, for `run prompt --with RECIPE`."),
    Command(
        "recipes list",
        "kinds.prompt.recipe_commands:list_recipes",
        "List the recipes that come with Pressroom.",
    ),
    Command(
        "recipes show",
        "kinds.prompt.recipe_commands:show_recipe",
        "Show a recipe's columns, settings and templates.",
    ),
    Command(
        "recipes check",
        "kinds.prompt.recipe_commands:check_recipe_files",
        "Check a recipe's files, and make the prompts of its example rows, without a model.",
    ),
    Command(
        "recipes init",
        "kinds.prompt.recipe_commands:init_recipe",
        "Make a recipe of your own as a copy of another one.",
    ),
)
