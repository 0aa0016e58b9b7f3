"""Judging: recorded numbers against the witness's own, under derived bounds."""
