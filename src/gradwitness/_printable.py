r"""Foreign names and texts, made safe to show: nothing in them acts, hides or forges a line.

A module's name, a path or the text of an exception may contain escape sequences, line ends or marks
that reverse the reading direction. They are escaped as in Python: ``\x1b``, ``\u202e``.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Escape every unprintable character except line ends."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else _written(c) for c in text)


def one_line(text: str) -> str:
    """Escape every unprintable character, including line ends."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _written(c) for c in text)


def _written(char: str) -> str:
    return char.encode("unicode_escape").decode()
