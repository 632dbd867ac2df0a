"""Which items for which user: models, rules, lists and their measures. Pure functions over arrays."""
