"""The rules of alerts, one per file: each is a statistical test of a window against the entity's own past.

To add a rule, add a member of AlertRule, a file here with a `judge` of the same signature, its line in
rules/table.py, its tests, and its quiet and planted feeds in benchmarks/alerts.py.
"""
