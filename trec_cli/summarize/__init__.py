"""Preference summaries: blocks, hierarchical and recurrent modes, the store."""
