"""Small records, of which a tape has many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen, slots=False):
        """Make a dataclass that type checkers hold frozen.

        Where Python itself guards the fields, it takes ten times as long to make one.
        """
        return dataclass(unsafe_hash=frozen, slots=slots)


__all__ = ["record"]
