"""Tests of the evaluation: metrics, statistics, tables and the report."""
