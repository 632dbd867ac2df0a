"""Intake of jobs: reads files of records, and turns the records into payloads."""
