"""Peers, each run by a Python of its own."""
