"""Shortcut audit: how well can the right answer be told without looking at the user?

Importing this imports numpy and scipy only; ``docs/audit.md`` has the theory.
"""
