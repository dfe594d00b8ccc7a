"""Tests of the cheap signals and the blend."""
