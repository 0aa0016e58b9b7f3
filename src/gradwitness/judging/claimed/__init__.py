"""Gradients that come from elsewhere, judged number by number."""
