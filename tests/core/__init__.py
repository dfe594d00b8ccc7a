"""Tests of trec_cli.core."""
