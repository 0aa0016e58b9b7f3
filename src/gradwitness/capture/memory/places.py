"""Which pieces of memory have bytes in common: of one memory, torch may make several storages."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.capture.memory.storages import Storage

# So many bits of an address tell what lies close together: in one mebibyte.
_BITS = 20


class Places:
    """Storages by the mebibytes in which they lie, as long as they live."""

    def __init__(self) -> None:
        self._near: defaultdict[int, list[Storage]] = defaultdict(list)

    def add(self, storage: Storage) -> None:
        """Note where a storage lies."""
        for part in _parts(storage):
            self._near[part].append(storage)

    def over(self, storage: Storage) -> list[Storage]:
        """Return the other storages with bytes of this one."""
        found: dict[int, Storage] = {}
        for part in _parts(storage) if self._near else ():
            near = self._near.get(part)
            if near is not None:
                # Memory that is free by now may be another's; what moved is added where it is seen.
                near[:] = [one for one in near if one.is_alive() and not one.has_moved()]
                found.update({one.number: one for one in near if _overlap(one, storage)})
        return [*found.values()]


def _parts(storage: Storage) -> Iterable[int]:
    at, size = storage.extent or (0, 0)
    return range(at >> _BITS, ((at + size - 1) >> _BITS) + 1) if at and size else ()


def _overlap(one: Storage, other: Storage) -> bool:
    if one is other or one.extent is None or other.extent is None:
        return False
    (at, size), (there, length) = one.extent, other.extent
    return at < there + length and there < at + size
