"""Tests of trec_cli.models."""
