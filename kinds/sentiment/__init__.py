"""Sentiment reports: documents in; rows, windows, alerts and a report for each entity out."""
