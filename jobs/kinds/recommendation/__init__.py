"""Recommendations: catalogue and interactions in; a list of items for each user, and words about them, out."""
