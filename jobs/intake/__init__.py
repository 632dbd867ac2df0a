"""Intake: reads tables and turns their records into payloads."""
