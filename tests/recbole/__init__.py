"""Tests of trec_cli.recbole."""
