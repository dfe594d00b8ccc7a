"""Tests of the sample collection."""
