"""Tests of the rules: one line in `samples` buys every test of an operation."""
