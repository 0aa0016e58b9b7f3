"""Tests of the engine: its numerics against exact arithmetic."""
