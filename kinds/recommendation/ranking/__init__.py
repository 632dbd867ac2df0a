"""Ranks items for users: models, rules, lists and their measures, as pure functions over arrays."""
