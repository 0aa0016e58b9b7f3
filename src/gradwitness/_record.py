"""Small records, of which a tape has many, and so has a judgement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as record
    from functools import cached_property as kept
else:

    def record(*, frozen, slots=False, kw_only=False):
        """Make a dataclass that type checkers hold frozen.

        Where Python itself guards the fields, it takes ten times as long to make one.
        """
        return dataclass(unsafe_hash=frozen, slots=slots, kw_only=kw_only)

    class kept:
        """A `cached_property` without its lock, which later versions of Python do without."""

        def __init__(self, make):
            self._make = make
            self.__doc__ = make.__doc__

        def __set_name__(self, owner, name):
            self._name = name

        def __get__(self, one, owner=None):
            if one is None:
                return self
            made = one.__dict__[self._name] = self._make(one)
            return made


__all__ = ["kept", "record"]
