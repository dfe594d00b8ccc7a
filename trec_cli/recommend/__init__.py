"""Recommendations: the best items of the whole catalogue for every user."""
