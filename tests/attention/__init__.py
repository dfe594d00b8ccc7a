"""Tests of trec_cli.attention."""
