"""Tests of trec_cli.embedding."""
