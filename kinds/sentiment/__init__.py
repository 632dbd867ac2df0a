"""Sentiment reports: turn documents into rows, windows, alerts, and a report for each entity."""
