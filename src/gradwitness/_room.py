"""How much of a recording is kept in memory."""

from __future__ import annotations

from typing import NamedTuple


class Room(NamedTuple):
    """How many bytes of recorded values stay that no step needs any more.

    Attributes
    ----------
    all : int
        Of all values. Once there are more, those are freed that can be computed from others.
    lasting : int
        Of the others. Once there are more, all are freed.
    """

    all: int
    lasting: int = 0
