r"""Foreign names and texts, made safe to show: nothing in them acts, hides or forges a line.

A module's name, a path or the text of an exception may contain escape sequences, line ends or marks
that reverse the reading direction. They are escaped as in Python: ``\x1b``, ``\u202e``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def printable(text: str) -> str:
    """Escape every unprintable character except line ends."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else _written(c) for c in text)


def one_line(text: str) -> str:
    """Escape every unprintable character, including line ends."""
    return printable(text).replace("\n", r"\n")


def listed(names: Iterable[str], most: int = 4) -> str:
    """Return names for a sentence, ``a, b and c``: the first, and how many more there are."""
    names = list(names)
    if len(names) > most:
        names[most:] = [f"{len(names) - most} more"]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def several(count: int, one: str, many: str) -> str:
    """Return a count with the words for one, or for any other number: ``1 step agrees``."""
    return f"{count} {one if count == 1 else many}"


def _written(char: str) -> str:
    return char.encode("unicode_escape").decode()
