"""Judging at a fraction of the cost: a look at each step, and in full where it is odd."""
