"""Attention over the blocks of a history: weights, values within a budget, target attention.

The method is our own; ``docs/attention.md`` has the equations.
"""
