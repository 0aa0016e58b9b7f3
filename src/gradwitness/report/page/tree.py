"""The groups of a graph by number, so that a page can unfold each one alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.report.picture.fold import fold, key_of
from gradwitness.report.picture.groups import Group
from gradwitness.report.picture.picture import Role

if TYPE_CHECKING:
    from gradwitness.report.picture.picture import Arrow, Box, Picture

# In a graph of more boxes only whole depths unfold: to draw each group takes too long.
_MOST_UNFOLDED = 6000
_NO_GROUP = -1


class Tree:
    """A picture's boxes in the order of their groups, in which each group is a stretch."""

    def __init__(self, picture: Picture, root: Group) -> None:
        self._picture = picture
        self._order: list[int] = []
        self._stretches: dict[str, tuple[int, int]] = {}
        self._groups: dict[str, Group] = {}
        self._walk(root)
        is_small = len(picture.boxes) <= _MOST_UNFOLDED
        self._numbers = {key: n for n, key in enumerate(self._groups)} if is_small else {}

    def _walk(self, group: Group) -> None:
        for member in group.members:
            begin = len(self._order)
            if isinstance(member, Group):
                key = key_of(sorted(member.boxes()))
                self._groups[key] = member
                self._walk(member)
            else:
                key = self._picture.boxes[member].key
                self._order.append(member)
            self._stretches[key] = begin, len(self._order)

    def stretch(self, box: Box) -> tuple[int, int]:
        """Return where the boxes that a box stands for begin and end."""
        return self._stretches[box.key]

    def number(self, box: Box) -> int:
        """Return the number of the group that a box stands for, or -1."""
        return self._numbers.get(box.key, _NO_GROUP)

    def nodes(self, box: Box) -> list[int]:
        """Return the numbers of the nodes that a box stands for."""
        members = sorted(self._order[slice(*self.stretch(box))])
        return [
            int(each.key[1:])
            for each in map(self._picture.boxes.__getitem__, members)
            if each.role in (Role.OPERATION, Role.CUSTOM, Role.LEAF)
        ]

    def insides(self) -> list[Picture]:
        """Return what is in each group, the groups in it closed."""
        within: dict[str, list[Arrow]] = {key: [] for key in self._numbers}
        if not within:
            return []
        lines = self._lines()
        for arrow in self._picture.arrows:
            pairs = zip(lines[arrow.source], lines[arrow.target], strict=False)
            shared = [here for here, there in pairs if here == there]
            if shared:
                within[shared[-1]].append(arrow)
        return [
            fold(replace(self._picture, arrows=tuple(arrows)), group, {group})
            for key, arrows in within.items()
            for group in [self._groups[key]]
        ]

    def _lines(self) -> dict[str, list[str]]:
        """Return the groups that each box lies in, from the outside in."""
        lines: dict[str, list[str]] = {self._picture.boxes[n].key: [] for n in self._order}
        for key in self._groups:  # outer ones come first
            for number in self._order[slice(*self._stretches[key])]:
                lines[self._picture.boxes[number].key].append(key)
        return lines
