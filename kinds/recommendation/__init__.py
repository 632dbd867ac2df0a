"""Recommendations: lists of items for users, and texts about them, from a catalogue and interactions."""
