"""The rules of alerts, one a file: each a statistical test of a window against the entity's own past.

To add a rule: a member of AlertRule, a file here with a `judge` of the same signature, its line in
rules/table.py, its tests, and its quiet and planted feeds in benchmarks/alerts.py.
"""
