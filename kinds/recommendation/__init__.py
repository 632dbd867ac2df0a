"""Recommendations: a catalogue and interactions in; lists of items for users, and words about them, out."""
