"""Showing: terminal, files, pictures. Nothing here decides a verdict."""
