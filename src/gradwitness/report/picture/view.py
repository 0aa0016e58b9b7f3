"""What of a picture is shown: folded to fit a page, a module, the surroundings of a node, all."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradwitness._errors import InputError
from gradwitness._printable import listed
from gradwitness.report.picture.fold import define, fold
from gradwitness.report.picture.groups import Group, grow
from gradwitness.report.picture.picture import Direction, Role
from gradwitness.report.picture.svg import arrange
from gradwitness.report.words import SENTENCES, explained
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.report.picture.picture import Picture

# As many boxes as a landscape page may show in a readable size, and fewer if they are large.
_MOST_BOXES = (14, 11, 8, 6)
_LEAST_SCALE = 0.55
_AROUND = 2


@dataclass(frozen=True)
class View:
    """What to show of a picture.

    Attributes
    ----------
    unfold : bool
        Every node, nothing folded.
    depth : int or None
        Open modules down to this depth, or, with ``around``, the distance from the node. By
        default as deep as fits a page, and 2.
    module : str
        Only this module, and closed what is next to it.
    around : str
        Only the surroundings of this node: its number (``12``, ``n12``, ``#12``), or the name of a
        parameter.
    compact : bool
        Names and shapes only, one line for each box.
    rightward : bool or None
        Left to right, or top down; None for what fits best.
    """

    unfold: bool = False
    depth: int | None = None
    module: str = ""
    around: str = ""
    compact: bool = False
    rightward: bool | None = None


def view(picture: Picture, chosen: View = View()) -> Picture:
    """Return what a view shows of a picture.

    Raises
    ------
    InputError
        If the picture has no such module or node, or the choices exclude each other.
    """
    if chosen.unfold + bool(chosen.module) + bool(chosen.around) > 1:
        raise InputError("choose one: unfold, module or around")
    if chosen.depth is not None and (chosen.unfold or chosen.depth < 0):
        raise InputError("depth is a number of levels from 0 on, and means nothing with unfold")
    if chosen.around:
        distance = _AROUND if chosen.depth is None else chosen.depth
        return _set(_around(picture, chosen.around, distance), chosen)
    if chosen.unfold:
        return _set(picture, chosen)
    # What the nodes saved would crowd out the nodes.
    saved = {box.key for box in picture.boxes if box.role is Role.SAVED}
    picture = replace(
        picture,
        boxes=tuple(box for box in picture.boxes if box.key not in saved),
        arrows=tuple(arrow for arrow in picture.arrows if arrow.target not in saved),
    )
    root = grow(picture)
    for most in _MOST_BOXES:
        shown = _set(_folded(picture, root, chosen, most), chosen)
        if chosen.depth is not None or arrange(shown).scale >= _LEAST_SCALE:
            break
    return shown


def _set(picture: Picture, chosen: View) -> Picture:
    """Leave out what a compact picture does not show, and choose the direction."""
    if chosen.compact:
        boxes = (
            replace(
                box,
                title=box.short or box.title,
                lines=(),
                verdict_text="" if box.verdict is Verdict.AGREES else box.verdict_text,
            )
            for box in picture.boxes
        )
        picture = replace(picture, boxes=tuple(boxes))
    said = SENTENCES.difference(explained(line for box in picture.boxes for line in box.lines))
    picture = replace(picture, legend=tuple(s for s in picture.legend if s not in said))
    direction = {None: Direction.FIT, True: Direction.RIGHT, False: Direction.DOWN}
    return replace(picture, direction=direction[chosen.rightward])


def _folded(picture: Picture, root: Group, chosen: View, most: int) -> Picture:
    inside = None
    opened = {root}
    if chosen.module:
        inside = _reach(picture, root, tuple(chosen.module.split(".")), opened)
        if not inside:
            names = sorted({box.path[0] for box in picture.boxes if box.path})
            raise InputError(
                f"no module {chosen.module!r} in this graph; it has {listed(names) or 'no modules'}"
            )
    if chosen.depth is None:
        _open_what_fits(picture, root, opened, most)
    else:
        _open_down_to(root, chosen.depth, opened)
    return fold(picture, root, opened, inside)


def _reach(picture: Picture, group: Group, path: tuple[str, ...], opened: set[Group]) -> set[int]:
    """Open the groups of a module and what they lie in; return the boxes in it."""
    inside: set[int] = set()
    for member in group.members:
        if not isinstance(member, Group):
            if picture.boxes[member].path[: len(path)] == path:
                inside.add(member)
            continue
        is_it = member.is_module and member.path == path
        deeper = set(member.boxes()) if is_it else _reach(picture, member, path, opened)
        if deeper:
            opened.add(member)
            inside |= deeper
    return inside


def _open_down_to(group: Group, depth: int, opened: set[Group]) -> None:
    for member in group.members:
        if isinstance(member, Group) and member.is_module and depth > 0:
            opened.add(member)
            _open_down_to(member, depth - 1, opened)


def _open_what_fits(picture: Picture, root: Group, opened: set[Group], most: int) -> None:
    """Open groups as long as there is room: first those with a wrong step, then outer ones."""
    wrong = {n for n, box in enumerate(picture.boxes) if box.verdict is Verdict.DISAGREES}
    ranks: dict[Group, tuple[bool, bool, int]] = {}
    _rank(root, wrong, ranks)
    total = sum(len(group.members) for group in opened) - len(opened) + 1
    while True:
        closed = [
            member
            for group in opened
            for member in group.members
            if isinstance(member, Group) and member not in opened
        ]
        for group in sorted(closed, key=ranks.__getitem__):
            is_right, *_ = ranks[group]
            if total + len(group.members) - 1 <= (most if is_right else 2 * most):
                opened.add(group)
                total += len(group.members) - 1
                break
        else:
            return


def _rank(
    group: Group, wrong: set[int], ranks: dict[Group, tuple[bool, bool, int]]
) -> tuple[bool, bool, int]:
    """Give each group its place in the order of opening, by all that is in it."""
    inner = [
        _rank(member, wrong, ranks) if isinstance(member, Group) else (member not in wrong, member)
        for member in group.members
    ]
    is_right, first = all(rank[0] for rank in inner), min((r[-1] for r in inner), default=0)
    ranks[group] = is_right, group.repeats > 0, first
    return ranks[group]


def _around(picture: Picture, name: str, distance: int) -> Picture:
    """Keep the boxes that so few arrows, in either direction, separate from one."""
    starts = [box.key for box in picture.boxes if _is_called(name, box.key, box.lines)]
    if not starts:
        raise InputError(
            f"no node {name!r} in this graph; give the number after # in a node's title, or the "
            "name of a parameter"
        )
    near: dict[str, list[str]] = {box.key: [] for box in picture.boxes}
    for arrow in picture.arrows:
        near[arrow.source].append(arrow.target)
        near[arrow.target].append(arrow.source)
    far = dict.fromkeys(starts, 0)
    waiting = deque(starts)
    while waiting:
        key = waiting.popleft()
        for other in near[key]:
            if other not in far and far[key] < distance:
                far[other] = far[key] + 1
                waiting.append(other)
    return replace(
        define(picture, {box.note for box in picture.boxes if box.key in far}),
        subtitle=" · ".join(part for part in (picture.subtitle, f"around {name}") if part),
        boxes=tuple(box for box in picture.boxes if box.key in far),
        arrows=tuple(a for a in picture.arrows if a.source in far and a.target in far),
    )


def _is_called(name: str, key: str, lines: tuple[str, ...]) -> bool:
    return key == f"n{name.lstrip('n#')}" or bool(lines and lines[0].endswith(f" = {name}"))
