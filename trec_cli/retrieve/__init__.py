"""Candidates from the whole catalogue: a few hundred items worth scoring for each question."""
