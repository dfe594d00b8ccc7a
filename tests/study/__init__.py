"""Tests of trec_cli.study."""
