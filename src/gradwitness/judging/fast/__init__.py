"""Judging for less than the judged step costs: a look at each step, and in full where it is odd."""
