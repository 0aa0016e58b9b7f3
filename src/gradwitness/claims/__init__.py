"""Gradients that somebody or something else computed, from wherever they come."""
