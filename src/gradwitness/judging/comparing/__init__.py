"""Recorded numbers against the witness's: how far they may lie apart, and whether they do."""
