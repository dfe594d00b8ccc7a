"""Metrics, intervals, comparisons and the report; never imports torch."""
