r"""Names and texts of others, made fit to be shown: nothing in them acts, hides or forges a line.

A module's name, a path or the text of an exception may hold escape sequences, line ends or marks
that reverse the direction of reading. They are written out as Python does it: ``\x1b``, ``\u202e``.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Write out every character that cannot be seen; line ends stay."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else _written(c) for c in text)


def one_line(text: str) -> str:
    """Write out every character that cannot be seen, line ends too: what a name has to be."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _written(c) for c in text)


def _written(char: str) -> str:
    return char.encode("unicode_escape").decode()
