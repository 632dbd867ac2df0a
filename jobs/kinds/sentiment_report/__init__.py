"""Sentiment reports: documents in; rows, windows, alerts and a report for each entity out."""

from jobs.kinds.sentiment_report.kind import SentimentReportKind

__all__ = ["SentimentReportKind"]
