"""The boxes of a picture as a tree: modules, repeated stretches, lines of the program.

`grow` makes the tree, `fold` shows it with some groups closed. Operations lie in the tree by the
program's order, so that a module that runs twice is two groups, and what is closed can have no
cycle. Parameters and the like lie in the innermost group that holds all their users.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from gradwitness.report.picture.picture import Role
from gradwitness.report.picture.stretches import repeated
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.report.picture.picture import Picture

# A fold that hides fewer boxes makes nothing clearer.
_LEAST_HIDDEN = 4
# More members than this are divided, where nothing else divides them.
_MOST_MEMBERS = 16
_MOST_NAMES = 3


@dataclass(eq=False)
class Group:
    """One group: a module, a repeated stretch, or a part of either."""

    name: str
    path: tuple[str, ...] = ()
    # In the program's order, and behind them what is no operation; numbers are boxes.
    members: list[Group | int] = field(default_factory=list)
    repeats: int = 0  # how many equal members it has; 0 if it is no repeated stretch
    is_module: bool = False

    def boxes(self) -> Iterator[int]:
        """Yield the numbers of all boxes in it."""
        for member in self.members:
            if isinstance(member, Group):
                yield from member.boxes()
            else:
                yield member


def grow(picture: Picture) -> Group:
    """Arrange the boxes of a picture as a tree."""
    boxes = picture.boxes
    order = sorted(
        (n for n, box in enumerate(boxes) if box.when is not None),
        key=lambda n: (boxes[n].when, -n),
    )
    root = Group("")
    # Without modules, the lines of the program divide a long run.
    by_line = len(order) > _MOST_MEMBERS and not any(boxes[n].path for n in order)
    open_groups = [root]
    for number in order:
        box = boxes[number]
        path = (box.line,) if by_line and box.line else box.path
        pairs = zip(open_groups[-1].path, path, strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        del open_groups[shared + 1 :]
        for depth in range(shared, len(path)):
            group = Group(
                path[-1].rpartition("/")[2] if by_line else ".".join(path[: depth + 1]),
                path[: depth + 1],
                is_module=not by_line,
            )
            open_groups[-1].members.append(group)
            open_groups.append(group)
        open_groups[-1].members.append(number)
    _Folder(picture).fold(root)
    _hang(picture, root)
    _dissolve(root)
    return root


class _Folder:
    """Folds repeated stretches, from the inside out, and divides what stays too long."""

    def __init__(self, picture: Picture) -> None:
        self._boxes = picture.boxes
        self._signs: dict[object, int] = {}

    def fold(self, group: Group) -> tuple[int, int]:
        """Fold a group's members; return its sign, the same for equal groups, and its size."""
        signs, sizes = [], []
        for member in group.members:
            if isinstance(member, Group):
                sign, size = self.fold(member)
            else:
                box = self._boxes[member]
                is_wrong = box.verdict is Verdict.DISAGREES
                sign, size = self._sign((box.short, is_wrong, box.inherits)), 1
            signs.append(sign)
            sizes.append(size)
        whole = self._sign((tuple(signs),))
        for start, length, count in reversed(repeated(signs, sizes, _LEAST_HIDDEN)):
            stop = start + length * count
            parts: list[Group | int] = [
                self._part(group.members[first : first + length], group.path)
                for first in range(start, stop, length)
            ]
            kinds = self._kinds(group.members[start : start + length])
            name = f"{count} x {_listed(kinds)}"
            group.members[start:stop] = [Group(name, group.path, parts, repeats=count)]
        self._divide(group)
        return signs[0] if len(signs) == 1 else whole, sum(sizes)

    def _sign(self, content: object) -> int:
        return self._signs.setdefault(content, len(self._signs))

    def _part(self, members: list[Group | int], path: tuple[str, ...]) -> Group:
        if len(members) == 1 and isinstance(members[0], Group):
            return members[0]
        first, last = (self._boxes[n].title for n in _ends(members))
        return Group(first if first == last else f"{first} to {last}", path, members)

    def _divide(self, group: Group) -> None:
        count = len(group.members)
        if count > _MOST_MEMBERS:
            size = -(-count // _MOST_MEMBERS)
            group.members = [
                self._part(group.members[start : start + size], group.path)
                for start in range(0, count, size)
            ]
            for part in group.members:
                if isinstance(part, Group) and not part.is_module and not part.repeats:
                    self._divide(part)

    def _kinds(self, members: list[Group | int]) -> list[str]:
        """Return names without their numbers: what is the same in all parts of a stretch."""
        computing = [m for m in members if isinstance(m, Group) or not self._boxes[m].is_view]
        return [self._kind(member) for member in computing or members]

    def _kind(self, member: Group | int) -> str:
        if not isinstance(member, Group):
            return self._boxes[member].title.partition(" #")[0]
        numberless = member.name.rstrip("0123456789").rstrip("._")
        return numberless if member.is_module and numberless else member.name


def _ends(members: list[Group | int]) -> tuple[int, int]:
    """Return the first and the last box of some members."""
    boxes = [
        n for m in (members[0], members[-1]) for n in (m.boxes() if isinstance(m, Group) else [m])
    ]
    return boxes[0], boxes[-1]


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_NAMES else f"{names[0]} to {names[-1]}"


def _hang(picture: Picture, root: Group) -> None:
    """Put everything that is no operation into the innermost group that holds its neighbours."""
    lines: dict[int, list[Group]] = {}
    _note_lines(root, [root], lines)
    numbers = {box.key: number for number, box in enumerate(picture.boxes)}
    near: dict[int, list[int]] = {}
    for arrow in picture.arrows:
        source, target = numbers[arrow.source], numbers[arrow.target]
        near.setdefault(source, []).append(target)
        near.setdefault(target, []).append(source)
    for number, box in enumerate(picture.boxes):
        if box.when is not None:
            continue
        around = [lines[n] for n in near.get(number, ()) if n in lines]
        line = [groups[0] for groups in zip(*around, strict=False) if len(set(groups)) == 1]
        if not line or box.role is Role.RESULT:
            line = [root]
        # What all parts of a stretch share stands beside it.
        while line[-1].repeats:
            line = line[:-1]
        line[-1].members.append(number)
        lines[number] = line


def _dissolve(group: Group) -> None:
    """Put what lies alone in a group in its place: a module of one operation is that operation."""
    for index, member in enumerate(group.members):
        inner = member
        while isinstance(inner, Group) and len(inner.members) == 1:
            inner = inner.members[0]
        group.members[index] = inner
        if isinstance(inner, Group):
            _dissolve(inner)


def _note_lines(group: Group, line: list[Group], lines: dict[int, list[Group]]) -> None:
    for member in group.members:
        if isinstance(member, Group):
            _note_lines(member, [*line, member], lines)
        else:
            lines[member] = line


def kinds(picture: Picture, boxes: list[int]) -> str:
    """Count the kinds of node among some boxes: ``2 x AddmmBackward0, ReluBackward0``."""
    counts = Counter(picture.boxes[n].title.partition(" #")[0] for n in boxes)
    return ", ".join(f"{count} x {kind}" if count > 1 else kind for kind, count in counts.items())
