"""Tests of the summariser."""
