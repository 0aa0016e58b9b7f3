"""Backward passes: the graph, and what goes through each of its nodes."""
