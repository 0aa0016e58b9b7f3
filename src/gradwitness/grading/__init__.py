"""Marks for gradients that somebody works out as an exercise."""
