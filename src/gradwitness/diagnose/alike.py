"""Steps that may share a mistake: all of a function, of one operation, or of one line."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Protocol, TypeVar

from gradwitness._printable import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from gradwitness.tape import Node


class Placed(Protocol):
    """A step that has a place: a site."""

    @property
    def node(self) -> Node:
        """Its node."""

    @property
    def op(self) -> str:
        """Its operation."""

    @property
    def place(self) -> str:
        """Its module and line."""


Site = TypeVar("Site", bound=Placed)
Wrong = TypeVar("Wrong")


def places_of(sites: Iterable[Placed]) -> str:
    """Return the first few places of some sites."""
    return listed(dict.fromkeys(site.place for site in sites))


def together(sites: Sequence[Site]) -> list[Sequence[Site]]:
    """Return sets of sites that may share a mistake: all, one operation, one repeated line."""
    groups: dict[tuple[str, str], list[Site]] = defaultdict(list)
    for site in sites:
        groups["", ""].append(site)
        groups[site.op, ""].append(site)
        groups[site.op, site.place].append(site)
    sets = {tuple(s.node.id for s in g): g for g in groups.values() if len(g) > 1}
    return list(sets.values())


def alike(made: Iterable[tuple[Site, Wrong]]) -> Iterator[Collection[tuple[Site, Wrong]]]:
    """Yield the steps at which one mistake was tried: all, and those of each line, if several."""
    groups: dict[tuple[str, int], dict[int, tuple[Site, Wrong]]] = defaultdict(dict)
    counts: Counter[int] = Counter()  # one step may make it for each of its operands
    for site, wrong in made:
        for line in ("", site.place):
            groups[line, counts[site.node.id]][site.node.id] = site, wrong
        counts[site.node.id] += 1
    sets = {tuple(map(id, group.values())): group.values() for group in groups.values()}
    yield from (group for group in sets.values() if len(group) > 1)
